"""Polls that come at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from navembed_site import polls
from navembed_site.bodies import Application
from navembed_site.polls import with_polls_in_line

PROGRESS, JOB = "/batch/progress", "/api/v1/batches/7"


def ask(application: Application, path: str, method: str = "GET") -> list[bytes]:
    return list(application({"REQUEST_METHOD": method, "PATH_INFO": path}, None))


@pytest.fixture
def inside() -> threading.Semaphore:
    """Counts those who have got through to the application."""
    return threading.Semaphore(0)


@pytest.fixture
def slow(inside: threading.Semaphore) -> tuple[Application, threading.Event]:
    """One whose answers come with the event."""
    answered = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        inside.release()
        assert answered.wait(300)
        return [environ["PATH_INFO"].encode()]

    return with_polls_in_line(application), answered


def test_one_poll_at_a_time_is_worked_on(
    slow: tuple[Application, threading.Event], inside: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "PATIENCE_SECONDS", 300)
    application, answered = slow
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(ask, application, path) for path in (PROGRESS, JOB)]
        assert inside.acquire(timeout=300)
        assert not inside.acquire(timeout=0.1)
        answered.set()
        assert [each.result() for each in waiting] == [[PROGRESS.encode()], [JOB.encode()]]


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/batch/cancel"), ("POST", JOB), ("GET", f"{JOB}/results"), ("GET", "/healthz")]
)
def test_other_calls_wait_for_none(
    slow: tuple[Application, threading.Event], inside: threading.Semaphore, method: str, path: str
) -> None:
    application, answered = slow
    with ThreadPoolExecutor() as threads:
        both = [threads.submit(ask, application, PROGRESS), threads.submit(ask, application, path, method)]
        assert all(inside.acquire(timeout=300) for _ in both)
        answered.set()


def test_a_poll_that_is_stuck_holds_up_the_others_for_a_moment_only(
    slow: tuple[Application, threading.Event], inside: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "PATIENCE_SECONDS", 0.01)
    application, answered = slow
    with ThreadPoolExecutor() as threads:
        stuck = [threads.submit(ask, application, PROGRESS) for _ in range(3)]
        assert all(inside.acquire(timeout=300) for _ in stuck)
        answered.set()
    assert ask(application, PROGRESS) == [PROGRESS.encode()]


def test_an_error_gives_the_place_away() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise OSError("no answer")

    for _ in range(2):
        with pytest.raises(OSError, match="no answer"):
            ask(with_polls_in_line(application), JOB)
