"""A database that is damaged, lost or full while the instance runs: everybody who asks is told."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from navembed_site.database import health
from navembed_site.database.trouble import trouble_of
from tests.instance.conftest import Instance

Eventually = Callable[..., None]
# A job that waits needs no weights, and this instance has none.
START = "from batches import services; services.problems_with = lambda models: {}; services.start_job()"


def get(instance: Instance, path: str) -> tuple[int, Any]:
    status, body = fetch(instance, path)
    return status, json.loads(body)


def fetch(instance: Instance, path: str) -> tuple[int, str]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", instance.port, timeout=120)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


@contextlib.contextmanager
def overwritten(path: Path) -> Iterator[None]:
    """A page of garbage amid the jobs, until the block ends."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [root] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'batches_trackresult'").fetchone()
        [size] = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        page = file.read(size)
        file.seek((root - 1) * size)
        file.write(random.Random(1).randbytes(size))
        file.flush()
        yield
        file.seek((root - 1) * size)
        file.write(page)


@contextlib.contextmanager
def cut_short(path: Path) -> Iterator[None]:
    whole = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(len(whole) // 2)
        yield
        file.seek(0)
        file.write(whole)


@contextlib.contextmanager
def deleted(path: Path) -> Iterator[None]:
    path.unlink()
    yield


def test_everybody_is_told_of_a_database_that_breaks_under_a_running_server(
    instance: Instance, eventually: Eventually
) -> None:
    path = instance.home / "navembed.sqlite3"
    assert instance.start(code=START).wait(120) == 0
    instance.start("serve", "--only", "web")
    eventually(instance.answers)
    for broken, what in ((overwritten, "is damaged"), (cut_short, "is damaged"), (deleted, "was deleted")):
        eventually(lambda: get(instance, "/healthz") == (200, {"status": "ok"}))
        with broken(path):
            eventually(lambda what=what: what in get(instance, "/healthz")[1].get("database", ""))
            assert get(instance, "/healthz")[0] == 503
            status, progress = get(instance, "/batch/progress")
            assert (status, progress["job_id"]) == (200, 1)
            assert progress["current_track"].startswith(f"waiting: The database {path} ")
            assert f"The database {what}" in fetch(instance, "/admin/login/")[1]
            told = instance.run("status")
            assert (told.returncode, f"The database {path} {what}" in told.stdout) == (1, True)
    check_restarted_server(instance, progress)


def check_restarted_server(instance: Instance, before: dict[str, Any]) -> None:
    """Also a web server that has never seen the database knows the job."""
    os.killpg(instance.processes()["web"]["pid"], signal.SIGKILL)
    status, after = get(instance, "/batch/progress")
    assert (status, after["job_id"], after["status"]) == (200, 1, before["status"])
    assert "navembed.sqlite3" in after["current_track"]


def test_what_the_worker_meets_is_told_until_it_goes_on(settings: Any, tmp_path: Path) -> None:
    settings.NAVEMBED_HOME = tmp_path
    health.note(sqlite_error("database or disk is full"))
    assert health.noted() == trouble_of(sqlite_error("database or disk is full"))
    health.forget()
    assert health.noted() is None


def sqlite_error(text: str) -> Exception:
    from django.db import OperationalError

    return OperationalError(text)


def test_disk_on_which_nothing_more_fits_is_told(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(health, "SPARE_BYTES", 2**60)
    found = health.look()
    assert found
    assert found.what == "is on a full disk"


def test_table_that_is_too_large_to_be_checked_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(health, "TABLE_SECONDS", 0.0)
    monkeypatch.setattr(health, "STEPS", 1)
    with closing(sqlite3.connect(tmp_path / "large.sqlite3")) as database:
        database.executescript("CREATE TABLE large (text); INSERT INTO large VALUES ('a'), ('b'), ('c');")
        assert health._check(database, "large") == "ok"
