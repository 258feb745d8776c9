"""Progress while the database is away."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from batches import services
from batches.models import BatchJob
from batches.selectors import last_known
from batches.selectors.last_known import LastKnown
from navembed_site.database.health import look
from tests.batches.rows import set_status
from tests.freezing import freeze

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@contextmanager
def database_away() -> Iterator[None]:
    """Move a SQLite file out of reach; let PostgreSQL's process for our connection freeze."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            server = cursor.fetchone()[0]
        freeze(server)
        try:
            yield
        finally:
            os.kill(server, signal.SIGCONT)
    else:
        connection.close()
        name = connection.settings_dict["NAME"]
        connection.settings_dict["NAME"] = "nowhere/at-all"
        try:
            yield
        finally:
            connection.settings_dict["NAME"] = name
    connection.close()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LastKnown:
    monkeypatch.setattr(last_known, "ANSWER_SECONDS", 0.5)
    return LastKnown(tmp_path / "progress.json")


def figures(reply: dict[str, Any]) -> dict[str, Any]:
    """All but what a reply says in words."""
    return {
        name: value for name, value in reply.items() if name not in ("current_track", "message", "estimated_completion")
    }


def test_database_that_is_away_is_named_whoever_looks() -> None:
    with database_away():
        trouble = look()
    assert trouble
    assert trouble.what in ("is not there", "is empty", "cannot be reached")
    assert look() is None


def test_last_known_state_is_told_while_the_database_is_away(known: LastKnown) -> None:
    services.start_job()
    before = known.progress()
    with database_away():
        told = known.progress()
    assert "The database" in told["message"]
    assert told["current_track"] == f"waiting: {told['message']}"
    assert figures(told) == figures(before)
    BatchJob.objects.update(status="running")
    assert known.progress()["status"] == "running"


def test_many_who_ask_at_once_are_told_what_one_has_read(known: LastKnown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_known, "FRESH_SECONDS", 300.0)
    services.start_job()
    first = known.progress()
    BatchJob.objects.update(status="running")
    assert known.progress() == first
    known.forget()
    assert known.progress()["status"] == "running"


def test_another_process_knows_it_from_the_file(known: LastKnown, tmp_path: Path) -> None:
    services.start_job()
    before = known.progress()
    with database_away():
        assert figures(LastKnown(tmp_path / "progress.json").progress()) == figures(before)
    assert (tmp_path / "progress.json").stat().st_mode & 0o777 == 0o600


def test_end_of_a_job_reaches_the_file_at_once(known: LastKnown, tmp_path: Path) -> None:
    job = services.start_job()
    known.progress()
    set_status(job, "completed")
    known.progress()
    assert json.loads((tmp_path / "progress.json").read_text())["status"] == "completed"


def test_counters_reach_the_file_once_a_second_at_most(
    known: LastKnown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.start_job()
    for now, processed in ((100.0, 1), (100.9, 2), (101.1, 3)):
        monkeypatch.setattr(time, "monotonic", lambda now=now: now)
        BatchJob.objects.update(total_tracks=9, processed_tracks=processed)
        known.progress()
        written = json.loads((tmp_path / "progress.json").read_text())["processed_tracks"]
        assert written == {1: 1, 2: 1, 3: 3}[processed]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_text("[")])
def test_lost_or_damaged_file_is_no_failure(known: LastKnown, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    services.start_job()
    known.progress()
    damage(tmp_path / "progress.json")
    with database_away():
        assert figures(LastKnown(tmp_path / "progress.json").progress()) == {"status": "no_job"}
