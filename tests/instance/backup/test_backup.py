"""Backup and restore of a database of either engine, and what is refused."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ, Schedule, Task
from django_q.tasks import schedule

from batches import services
from batches.models import BatchJob
from embeddings.models import Embedding, Track
from navembed_site.instance.backup import archive, databases
from navembed_site.instance.backup.archive import BackupError
from navembed_site.instance.backup.operations import backup, restore, settings_text
from navembed_site.process import locks
from tests.batches.rows import VECTOR, device, make_embedding, make_job, make_space, make_track, make_tracks

TABLES = {"a": "a", "b": "b"}


@pytest.fixture
def home(settings: Any, short_tmp: Path) -> Path:
    """A folder in which no process of the tests' instance is at home."""
    settings.NAVEMBED_HOME, settings.PID_DIR = short_tmp, short_tmp / "run"
    settings.EMBEDDER_SOCKET, settings.MILVUS_LITE_SOCKET = short_tmp / "embedder.sock", short_tmp / "milvus.sock"
    settings.GIVEN_VARIABLES = {"NAVEMBED_LIBRARY": "folder"}
    return short_tmp


@pytest.fixture
def file(home: Path, transactional_db: None) -> Path:
    """A backup of one embedded track, one user and one unfinished job."""
    User.objects.create_user("anna")
    track = make_track("t")
    make_embedding(make_space(), track)
    make_job([track])
    backup(home / "backup.tar")
    return home / "backup.tar"


pytestmark = pytest.mark.database


def test_restore_brings_back_what_there_was_and_nothing_else(file: Path) -> None:
    make_tracks(3)
    Embedding.objects.all().delete()
    manifest, _ = restore(file, force=True)
    assert manifest.counts == {"tracks": 1, "embeddings": 1, "jobs": 1, "users": 1}
    assert [track.pk for track in Track.objects.all()] == ["t"]
    assert bytes(Embedding.objects.get().vector) == VECTOR.astype("<f4").tobytes()
    assert User.objects.get().username == "anna"


def test_restored_job_goes_on_with_a_device_that_no_old_message_fits(file: Path) -> None:
    before = device().seq
    restore(file, force=True)
    assert services.open_job() == BatchJob.objects.get()
    [message] = OrmQ.objects.all()
    assert message.task["args"] == (device().pk, device().seq)
    assert device().seq > before


def test_what_was_away_long_ago_is_kept_for_its_days_from_now(file: Path, home: Path) -> None:
    Track.objects.update(playable=False, away_since=timezone.now() - timedelta(days=90))
    backup(home / "old.tar")
    restore(home / "old.tar", force=True)
    assert timezone.now() - Track.objects.get().away_since < timedelta(hours=1)


def test_old_machines_webhooks_are_not_sent_by_the_new_one(home: Path, transactional_db: None) -> None:
    schedule("batches.tasks.send_webhook", "{}", 1, cluster="light")
    backup(home / "backup.tar")
    restore(home / "backup.tar", force=True)
    assert not Schedule.objects.exists()


def test_messages_schedules_and_results_in_a_backup_are_not_restored(home: Path, transactional_db: None) -> None:
    now = timezone.now()
    OrmQ.objects.create(key="light", payload="x", lock=now)
    Schedule.objects.create(name="evil", func="os.mkdir", args="('/evil',)", schedule_type=Schedule.MINUTES)
    Task.objects.create(id="a", name="a", func="f", started=now, stopped=now, result=1)
    backup(home / "backup.tar")
    restore(home / "backup.tar", force=True)
    assert [model.objects.count() for model in (OrmQ, Schedule, Task)] == [0, 0, 0]


TRIGGER = {
    "sqlite": ["CREATE TRIGGER evil BEFORE DELETE ON auth_user BEGIN SELECT 1; END", "DROP TRIGGER evil"],
    "postgresql": [
        "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP FUNCTION evil",
    ],
}
VIEW = ["CREATE VIEW evil AS SELECT 1", "DROP VIEW evil"]


@pytest.mark.parametrize("statements", [TRIGGER[connection.vendor], VIEW], ids=["trigger", "view"])
def test_database_with_code_of_its_own_is_refused(home: Path, transactional_db: None, statements: list[str]) -> None:
    make, drop = statements
    with connection.cursor() as cursor:
        cursor.execute(make)
        backup(home / "backup.tar")
        cursor.execute(drop)
    make_track("t")
    with pytest.raises(BackupError, match=r"holds .*evil.*, which navembed never makes"):
        restore(home / "backup.tar", force=True)
    assert Track.objects.exists()


HIDDEN = "CREATE TRIGGER evil AFTER INSERT ON a BEGIN SELECT 1; END"


@pytest.mark.parametrize(
    "script",
    [
        "CREATE VIRTUAL TABLE evil USING fts5(x)",
        f"PRAGMA writable_schema=ON; INSERT INTO sqlite_master VALUES ('table', 'evil', 'evil', 0, '{HIDDEN}')",
    ],
    ids=["virtual table", "trigger that says it is a table"],
)
def test_what_looks_like_a_table_and_is_none_is_refused(home: Path, script: str) -> None:
    with closing(sqlite3.connect(home / "copy")) as copy:
        copy.executescript(f"CREATE TABLE a (x); {script}")
    with (home / "copy").open("rb") as content, pytest.raises(BackupError, match="evil"):
        databases._restore_sqlite(content, 1)


def test_database_that_is_none_is_refused(home: Path) -> None:
    (home / "copy").write_bytes(b"no database" * 1_000)
    with (home / "copy").open("rb") as content, pytest.raises(BackupError, match="cannot be read"):
        databases._restore_sqlite(content, 1)


def test_database_that_holds_something_is_kept(file: Path) -> None:
    Track.objects.all().delete()
    with pytest.raises(BackupError, match="holds something already"):
        restore(file)
    assert not Track.objects.exists()


@pytest.mark.parametrize("program", ["worker", "light", "web"])
def test_restore_waits_for_nobody_who_is_at_work(file: Path, program: str) -> None:
    with locks.hold(program), pytest.raises(BackupError, match=f"The instance runs \\({program}\\)"):
        restore(file, force=True)


def test_damaged_backup_changes_nothing(file: Path) -> None:
    Track.objects.all().delete()
    file.write_bytes(file.read_bytes()[:-20_000])
    with pytest.raises(BackupError):
        restore(file, force=True)
    assert not Track.objects.exists()


def test_backup_of_a_newer_navembed_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = archive.verify(file)
    manifest.migrations.append("batches.0999_future")
    monkeypatch.setattr(archive, "verify", lambda path: manifest)
    with pytest.raises(BackupError, match=r"newer navembed .*batches\.0999_future"):
        restore(file, force=True)


def test_backup_of_another_engine_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "other")
    with pytest.raises(BackupError, match="DATABASE_URL names other"):
        restore(file, force=True)


def test_file_is_for_its_owner_alone_and_nothing_lies_beside_it(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_failed_backup_leaves_the_last_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()
    monkeypatch.setattr(databases, "size", lambda: 10**18)
    with pytest.raises(BackupError, match="B are needed"):
        backup(file)
    assert file.read_bytes() == before
    assert [path for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_settings_are_put_into_place_or_beside_those_that_are_there(file: Path, home: Path) -> None:
    _, first = restore(file, force=True)
    _, second = restore(file, force=True)
    assert (first, second) == (home / "navembed.env", home / "navembed.env.restored")
    assert "NAVEMBED_LIBRARY=folder\n" in first.read_text()
    assert first.stat().st_mode & 0o777 == 0o600


SECRETS = {
    "DATABASE_URL": "postgres://u:secret@h/d", "NAVEMBED_MILVUS_TOKEN": "secret", "NAVEMBED_WEBHOOK_SECRET": "secret",
    "NAVEMBED_WEBHOOK_URL": "https://h/secret", "NAVIDROME_MILVUS_URI": "http://u:secret@h",
    "NAVEMBED_MUQ": "https://secret@h/muq", "LOG_DIR": "a\nX=secret",
}  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_secret_is_not_kept_but_told(name: str) -> None:
    text = settings_text({name: SECRETS[name]})
    assert "secret" not in text.replace("a secret", "").replace(name, "")
    assert f"# {name} was set" in text


def test_folders_and_servers_of_the_old_machine_are_comments() -> None:
    text = settings_text({"LOG_DIR": "/var/log", "NAVIDROME_MILVUS_URI": "http://milvus:19530"})
    assert "\n# LOG_DIR=/var/log\n# NAVIDROME_MILVUS_URI=http://milvus:19530\n" in text


@pytest.fixture
def busy(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two tables that are always written together, also between any two steps of a copy."""
    path = tmp_path / "busy.sqlite3"
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(path))
    monkeypatch.setattr(databases, "PAGES_A_STEP", 8)
    with closing(sqlite3.connect(path)) as writer:
        writer.executescript("PRAGMA journal_mode=WAL; CREATE TABLE a (x BLOB); CREATE TABLE b (x BLOB)")

        def write(*_: Any) -> None:
            for table in TABLES:
                writer.execute(f"INSERT INTO {table} VALUES (zeroblob(3000))")
            writer.commit()

        for _ in range(100):
            write()
        monkeypatch.setattr(databases, "_interruptible", write)
        yield path


def test_copy_of_a_database_that_is_written_to_is_of_one_moment(busy: Path, tmp_path: Path) -> None:
    assert databases._dump_sqlite(tmp_path / "copy", TABLES) == {"a": 100, "b": 100}
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with closing(sqlite3.connect(busy)) as source:
        written = source.execute("SELECT count(*) FROM a").fetchone()[0] - 100
    assert 10 < written < 60  # once for each step: it never began anew


def test_journal_of_the_old_database_does_not_get_into_the_restored_one(busy: Path, tmp_path: Path) -> None:
    databases._dump_sqlite(tmp_path / "copy", TABLES)
    with closing(sqlite3.connect(busy)) as other, closing(sqlite3.connect(busy)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM a").fetchone()  # keeps the journal
        other.execute("DELETE FROM a")
        other.commit()
        with (tmp_path / "copy").open("rb") as content:
            databases._restore_sqlite(content, 1)
        with closing(sqlite3.connect(busy)) as restored:
            assert restored.execute("SELECT count(*) FROM a").fetchone() == (100,)
            assert restored.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_programs_of_postgresql_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BackupError, match="pg_dump is not on the PATH"):
        databases._run_postgresql("pg_dump", [])


def test_password_goes_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "pg_dump"
    script.write_text('#!/bin/sh\necho "$@"; echo "password: $PGPASSWORD"\n')
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "s3cret")
    with (tmp_path / "said").open("wb") as said:
        databases._run_postgresql("pg_dump", ["--option"], stdout=said)
    arguments, password = (tmp_path / "said").read_text().splitlines()
    assert arguments.startswith("--option --no-password")
    assert "s3cret" not in arguments
    assert password == "password: s3cret"


def test_failure_of_a_program_is_told_in_its_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "pg_restore"
    script.write_text("#!/bin/sh\necho 'it is broken' >&2; exit 3\n")
    script.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "dump").write_bytes(bytes(10**6))
    with (tmp_path / "dump").open("rb") as content, pytest.raises(BackupError, match="pg_restore failed: it is broken"):
        databases._restore_postgresql(content)
