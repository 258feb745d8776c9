"""What is costly to find out is asked for now and then, and shown meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from django.db import DatabaseError

from navembed_site.http.remembered import Remembered
from tests.instance.conftest import eventually

__all__ = ["eventually"]


def test_what_took_long_to_find_out_is_not_told_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A health line that goes on being red makes people mend what works."""
    clock = iter([0.0, 10.0, 24.0, 26.0, 27.0])  # the first answer takes ten seconds
    monkeypatch.setattr("navembed_site.http.remembered.time.monotonic", lambda: next(clock))
    asked = iter(["red", "green"])
    signs = Remembered(lambda: next(asked), seconds=3.0, longest=15.0)
    assert [signs.get() for _ in range(3)] == ["red", "red", "green"]


def test_old_figures_are_shown_while_new_ones_are_found_out(eventually: Callable[..., None]) -> None:
    answers, may_go_on = iter(range(9)), threading.Event()

    def ask() -> int:
        answer = next(answers)
        assert answer == 0 or may_go_on.wait(60)
        return answer

    figures = Remembered(ask, seconds=0.0)
    assert figures.latest() == 0
    time.sleep(0.01)  # they are due
    assert [figures.latest() for _ in range(3)] == [0, 0, 0]
    may_go_on.set()
    eventually(lambda: figures.latest() > 0)


def test_figures_that_cannot_be_renewed_stay(caplog: pytest.LogCaptureFixture, eventually: Callable[..., None]) -> None:
    answers = iter([1, DatabaseError("away"), 2])

    def ask() -> int:
        answer = next(answers, 2)
        if isinstance(answer, Exception):
            raise answer
        return answer

    figures = Remembered(ask, seconds=0.0)
    eventually(lambda: figures.latest() == 2)
    assert "could not be renewed" in caplog.text
