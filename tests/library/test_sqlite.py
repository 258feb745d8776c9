"""Reading beside a Navidrome that runs, was stopped or was killed, without leaving a trace."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library.navidrome import NavidromeLibrary
from embeddings.library.sqlite import ForeignDatabase
from tests.navidrome_db import add_tracks, make_navidrome

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


@contextmanager
def without_write_permission(folder: Path) -> Iterator[None]:
    """Nobody, root included, may write into ``folder``."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(os.getuid())
        folder.chmod(0o755)


def make(folder: Path, count: int = 1, journal: str = "wal") -> Path:
    rows = [{"id": f"{number:05}", "path": f"{number}.mp3"} for number in range(count)]
    return make_navidrome(folder / "navidrome.db", rows, journal=journal)


def ids(database: Path) -> list[str]:
    return [track.id for page in NavidromeLibrary(database).pages() for track in page]


def kill_while_writing(database: Path, *, journal: str) -> None:
    """Start a writer in a process of its own, let it commit a row and begin another, and kill it."""
    script = f"""
import os, signal, sqlite3
connection = sqlite3.connect({str(database)!r}, isolation_level=None)
connection.execute("PRAGMA journal_mode={journal}")
connection.execute("PRAGMA cache_size=1")
connection.execute("INSERT INTO media_file (id, path) VALUES ('committed', 'x.mp3')")
connection.execute("BEGIN")
connection.execute("UPDATE media_file SET path = hex(randomblob(3000))")
connection.execute("INSERT INTO media_file (id, path) VALUES ('uncommitted', 'x.mp3')")
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], check=False)


def test_a_stopped_navidrome_keeps_exactly_its_files(folder: Path) -> None:
    database = make(folder)
    content = database.read_bytes()
    assert ids(database) == ["00000"]
    assert [path.name for path in folder.iterdir()] == ["navidrome.db"]
    assert database.read_bytes() == content


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_stopped_navidrome_is_read_in_an_unwritable_folder(folder: Path, journal: str) -> None:
    database = make(folder, journal=journal)
    with without_write_permission(folder):
        assert ids(database) == ["00000"]
    assert [path.name for path in folder.iterdir()] == ["navidrome.db"]


def test_rows_that_are_only_in_the_wal_are_seen(folder: Path) -> None:
    database = make(folder)
    with closing(sqlite3.connect(database)) as navidrome:
        add_tracks(navidrome, [{"id": "new", "path": "new.mp3"}])
        before = sorted(path.name for path in folder.iterdir())
        assert ids(database) == ["00000", "new"]
        assert sorted(path.name for path in folder.iterdir()) == before
    assert [path.name for path in folder.iterdir()] == ["navidrome.db"]


def test_a_running_navidrome_is_read_in_an_unwritable_folder(folder: Path) -> None:
    database = make(folder)
    with closing(sqlite3.connect(database)) as navidrome:
        add_tracks(navidrome, [{"id": "new", "path": "new.mp3"}])
        with without_write_permission(folder):
            assert ids(database) == ["00000", "new"]


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_killed_navidrome_shows_what_was_committed(folder: Path, journal: str) -> None:
    database = make(folder, 20, journal=journal)
    kill_while_writing(database, journal=journal)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert len(before) == 2
    seen = ids(database)
    assert (seen[-1], len(seen)) == ("committed", 21)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert after == before


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_killed_navidrome_is_read_in_an_unwritable_folder(folder: Path, journal: str) -> None:
    database = make(folder, 20, journal=journal)
    kill_while_writing(database, journal=journal)
    with without_write_permission(folder):
        assert len(ids(database)) == 21


def test_a_copied_database_with_its_wal_is_read_and_left_alone(folder: Path) -> None:
    running, copied = folder / "running", folder / "copied"
    running.mkdir(), copied.mkdir()
    database = make(running)
    with closing(sqlite3.connect(database)) as navidrome:
        add_tracks(navidrome, [{"id": "new", "path": "new.mp3"}])
        for suffix in ("", "-wal"):
            shutil.copy(f"{database}{suffix}", copied)
    assert ids(copied / "navidrome.db") == ["00000", "new"]
    assert sorted(path.name for path in copied.iterdir()) == ["navidrome.db", "navidrome.db-wal"]


def test_a_private_copy_leaves_no_file_and_follows_changes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = folder / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    database = make(folder, 5, journal="delete")
    kill_while_writing(database, journal="delete")
    reader = ForeignDatabase(database)
    assert reader.query("SELECT count(*) FROM media_file") == [(6,)]
    with closing(sqlite3.connect(database)) as navidrome:  # comes back, and rolls its journal back
        add_tracks(navidrome, [{"id": "later", "path": "x.mp3"}])
    assert reader.query("SELECT count(*) FROM media_file") == [(7,)]
    assert not list(scratch.iterdir())


def test_a_linked_database_is_read_with_the_wal_of_its_target(folder: Path) -> None:
    (folder / "data").mkdir()
    database = make(folder / "data")
    (folder / "link.db").symlink_to(database)
    with closing(sqlite3.connect(database)) as navidrome:
        add_tracks(navidrome, [{"id": "new", "path": "new.mp3"}])
        assert ids(folder / "link.db") == ["00000", "new"]


def test_nothing_can_be_written_through_it(folder: Path) -> None:
    reader = ForeignDatabase(make(folder))
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.query("DELETE FROM media_file")


@contextmanager
def busy_navidrome(database: Path) -> Iterator[None]:
    """A process that writes all the time; its connections come and go, and with them the WAL."""
    script = f"""
import sqlite3, sys
number = 0
while True:
    connection = sqlite3.connect({str(database)!r}, timeout=30)
    for _ in range(5):
        number += 1
        connection.execute("UPDATE media_file SET title = ? WHERE id < '02500'", (str(number) * 9,))
        connection.commit()
    connection.close()
    print(number, flush=True) if number == 5 else None
"""
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert writer.stdout
    try:
        writer.stdout.readline()
        yield
    finally:
        writer.kill()
        writer.communicate()


def test_what_was_read_while_navidrome_started_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = make(folder)
    navidrome = sqlite3.connect(database, check_same_thread=False)
    really_open = ForeignDatabase._open

    def open_as_navidrome_starts(self: ForeignDatabase, options: str) -> sqlite3.Connection:
        connection = really_open(self, options)
        if "immutable" in options:
            add_tracks(navidrome, [{"id": "new", "path": "new.mp3"}])
        return connection

    monkeypatch.setattr(ForeignDatabase, "_open", open_as_navidrome_starts)
    with closing(navidrome):
        assert ForeignDatabase(database).query("SELECT count(*) FROM media_file") == [(2,)]


def test_a_navidrome_that_writes_all_the_time_is_read_whole(folder: Path) -> None:
    database = make(folder, 5000)
    with busy_navidrome(database):
        for _ in range(8):
            assert len(ids(database)) == 5000


def test_a_locked_database_is_reported_as_such(folder: Path) -> None:
    database = make(folder, journal="delete")
    with closing(sqlite3.connect(database)) as navidrome:
        navidrome.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LibraryUnavailable, match="locked"), NavidromeLibrary(database)._reading(0.05) as reading:
            reading.query("SELECT id FROM media_file", ())


def test_memory_stays_flat_and_a_generator_may_move_between_threads(folder: Path) -> None:
    pages = NavidromeLibrary(make(folder, 2500)).pages()
    first: list[int] = []
    reader = threading.Thread(target=lambda: first.append(len(next(pages))))
    reader.start()
    reader.join()
    assert [*first, *(len(page) for page in pages)] == [2000, 500]
