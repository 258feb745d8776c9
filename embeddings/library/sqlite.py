"""Reading a SQLite database that belongs to another program, which may write to it at the same time.

Nothing is written to it and no file is left beside it. How it is opened depends on what lies there:

- ``-wal`` and ``-shm`` exist (its owner runs, or was killed), or it is no WAL database: ``mode=ro``.
- A WAL database without ``-wal`` (its owner was stopped): ``mode=ro`` would fail in an unwritable folder, and
  leave ``-wal`` and ``-shm`` files of ours in a writable one. Everything is in the database file then, so it
  is read as ``immutable``, and what was read counts only if no file has changed meanwhile.
- Anything else, such as a ``-wal`` without ``-shm`` or a hot journal: a private copy, which is made again
  when the files change.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from navembed_site.process.slow_calls import RaiseIfStopped, patiently, within

Row = tuple[Any, ...]
Found = TypeVar("Found")
State = tuple[tuple[int, int, int] | None, ...]

BUSY_SECONDS = 15
ANSWER_SECONDS = 5  # … beside that
ATTEMPTS = 5
# SQLite's journals of every kind; with the database itself they are all that decides its content.
COMPANIONS = ("", "-wal", "-journal")
# Closing any descriptor of a file gives up the locks that this process has on it, those of another thread's
# connection too (https://www.sqlite.org/howtocorrupt.html, 2.2), and we read headers and copy.
_one_at_a_time = threading.Lock()


class ForeignDatabase:
    """Runs one piece of work at a time; between two nothing but a private copy is open."""

    def __init__(
        self, path: Path, *, busy_seconds: float = BUSY_SECONDS, raise_if_stopped: RaiseIfStopped | None = None
    ) -> None:
        self.busy_seconds = busy_seconds  # how long a query waits while the owner locks the whole database
        self._named = path
        self._raise_if_stopped = raise_if_stopped
        self._copy: tuple[State, sqlite3.Connection] | None = None

    @cached_property
    def path(self) -> Path:
        """SQLite, too, looks for journals where a link leads."""
        return self._named.resolve()

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Return all rows. Bytes that are not UTF-8 become U+FFFD. Raises as ``run``."""
        return self.run(lambda connection: connection.execute(sql, parameters).fetchall())

    def run(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        """Return what ``work`` makes of the database; it is called again when its owner wrote in a way that spoils it.

        Raises sqlite3.Error or OSError when the database cannot be read, also when its disk does not answer. With
        ``raise_if_stopped`` it may take as long as it likes: that is called about once a second.
        """
        seconds = self.busy_seconds + ANSWER_SECONDS
        late = sqlite3.OperationalError(f"it has not answered for {seconds:.0f} s")
        return patiently(partial(self._run, work), self._raise_if_stopped or within(seconds, late))

    def _run(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        if not _one_at_a_time.acquire(timeout=self.busy_seconds):
            raise sqlite3.OperationalError("an earlier query is still waiting for its disk")
        try:
            for _ in range(ATTEMPTS):
                state = self._state()
                try:
                    found = self._read(state, work)
                except (FileNotFoundError, sqlite3.Error):
                    if self._state() == state:
                        raise
                    continue  # the owner wrote or removed a journal while we read it
                if found is not None:
                    return found
        finally:
            _one_at_a_time.release()
        raise sqlite3.OperationalError("it keeps changing while it is read")

    def close(self) -> None:
        """Closes a private copy."""
        if self._copy is not None:
            self._copy[1].close()
            self._copy = None

    def _read(self, state: State, work: Callable[[sqlite3.Connection], Found]) -> Found | None:
        """Return what ``work`` found, or None when the files changed so that it means nothing."""
        is_wal = self._is_wal()
        if is_wal and state[1] is None:
            with closing(self._open("mode=ro&immutable=1")) as connection:
                found = work(connection)
            return found if self._state() == state else None
        if not is_wal or self._companion("-shm").exists():
            try:
                with closing(self._open("mode=ro")) as connection:
                    return work(connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                    raise
        if self._copy is None or self._copy[0] != state:
            self.close()
            self._copy = self._private_copy(state)
        return work(self._copy[1]) if self._copy else None

    def _private_copy(self, state: State) -> tuple[State, sqlite3.Connection] | None:
        """Copy the files; None when they changed meanwhile. The copy loses its name: no kill leaves it."""
        with tempfile.TemporaryDirectory(prefix="navembed-") as folder:
            target = Path(folder) / "copy.db"
            for suffix, stat in zip(COMPANIONS, state, strict=True):
                if stat is not None:
                    shutil.copyfile(self._companion(suffix), f"{target}{suffix}")
            if self._state() != state:
                return None
            connection = self._open("mode=rw", target)
            connection.execute("PRAGMA journal_mode=DELETE").fetchall()  # moves the WAL into the database
        return state, connection

    def _open(self, options: str, path: Path | None = None) -> sqlite3.Connection:
        uri = f"file:{quote(str(path or self.path))}?{options}"
        # A generator may be continued by another thread, never by two at once.
        connection = sqlite3.connect(uri, uri=True, timeout=self.busy_seconds, check_same_thread=False)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        return connection

    def _is_wal(self) -> bool:
        """Whether the file's header says WAL (https://www.sqlite.org/fileformat.html, bytes 18 and 19)."""
        with self.path.open("rb") as file:
            return file.read(20)[18:20] == b"\x02\x02"

    def _companion(self, suffix: str) -> Path:
        return Path(f"{self.path}{suffix}")

    def _state(self) -> State:
        """What changes whenever the content does. An empty journal counts as none."""
        stats: list[tuple[int, int, int] | None] = []
        for suffix in COMPANIONS:
            try:
                stat = self._companion(suffix).stat()
            except FileNotFoundError:
                stats.append(None)
                continue
            stats.append((stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat.st_size else None)
        return tuple(stats)
