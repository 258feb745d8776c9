"""A look at the database that notices what queries alone do not: damage that nobody has read yet, a file that was
deleted and lives on in open descriptors only, a disk on which nothing more fits."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from urllib.parse import quote

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection, utils
from django.http import HttpRequest

from navembed_site.database.time_limit import time_limit
from navembed_site.database.trouble import (
    RESTORE,
    ROOM,
    Trouble,
    is_file,
    trouble_of,
    trouble_of_disk,
    trouble_of_emptied,
)
from navembed_site.process.locks import DELETED, PROC, holders

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
BUSY_SECONDS = 10.0
STUCK_SECONDS = 15.0
PAUSE_SECONDS = 5.0
PAUSE_TIMES = 20  # what the look has computed: it takes 5 % of a core at most
NOTE_SECONDS = 90.0  # three times SQLite's busy time-out
CHECK_SECONDS = 0.5
"""How long one look checks tables; the next one goes on with the others."""
TABLE_SECONDS = 5.0
"""What one table may take; a larger one is left out."""
STEPS = 10_000  # of SQLite's, between two looks at the time
LARGE = "embeddings_embedding"
LARGE_BYTES = 256 * 2**20
"""Of a file; in a larger one the vectors are not checked: that would read all of it again and again."""
SPARE_BYTES = 4 * 2**20
PROBE_BYTES = 2**16


def look() -> Trouble | None:
    """Return what is wrong with the database; it takes seconds at most. None when it can be read and written."""
    try:
        return _look_at_file(Path(settings.DATABASES["default"]["NAME"])) if is_file() else _ask_server()
    except sqlite3.Error as error:
        return trouble_of(utils.OperationalError(str(error)))
    except (DatabaseError, InterfaceError) as error:
        return trouble_of(error)
    except OSError as error:
        return trouble_of_disk(error)


def _look_at_file(path: Path) -> Trouble | None:
    if lost := _lost_file(path):
        return lost
    if (free := shutil.disk_usage(path.parent).free) < SPARE_BYTES:
        return Trouble("is on a full disk", f"{free:,} bytes are free", ROOM)
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY_SECONDS)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        if not tables:
            return trouble_of_emptied()
        if found := _damage(database, tables, path.stat().st_size):
            return Trouble("is damaged", found, RESTORE)
    _probe(path)
    return None


def _lost_file(path: Path) -> Trouble | None:
    """Say that the file is not there, or that processes of `serve` go on with one that was deleted."""
    users = [str(pid) for pid in sorted(holders("serve")) if _has_open(pid, f"{path.resolve()}{DELETED}")]
    if users:
        what = "was deleted or replaced while it was in use"
        detail = f"what has changed since is kept by the processes {', '.join(users)} alone, and lost when they end"
        # Linux shows such a file as long as somebody has it open, and lets it be copied.
        return Trouble(what, detail, f"See docs/troubleshooting.md before you stop them; then: {RESTORE}")
    if path.exists():
        return None
    return trouble_of_emptied() or Trouble("is not there", "the file does not exist", RESTORE)


def _has_open(pid: int, name: str) -> bool:
    with suppress(OSError):
        for link in (PROC / str(pid) / "fd").iterdir():
            with suppress(OSError):
                if str(link.readlink()) == name:
                    return True
    return False


_turns: Iterator[str] = iter(())
_known: list[str] = []


def _damage(database: sqlite3.Connection, tables: list[str], size: int) -> str | None:
    """Check tables, one after the other, as long as there is time; return what is wrong with the first bad one."""
    global _turns, _known
    wanted = [table for table in tables if table != LARGE or size < LARGE_BYTES]
    if wanted != _known:
        _known, _turns = wanted, cycle(wanted)
    began = time.monotonic()
    for _ in wanted:
        table = next(_turns)
        if (result := _check(database, table)) != "ok":
            return f"{table}: {' '.join(result.split())[:200]}"
        if time.monotonic() - began > CHECK_SECONDS:
            break
    return None


def _check(database: sqlite3.Connection, table: str) -> str:
    """Return what SQLite says of a table, ``ok`` also of one that takes too long. Raises sqlite3.Error."""
    until = time.monotonic() + TABLE_SECONDS
    database.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        return str(database.execute(f'PRAGMA quick_check("{table}")').fetchmany(1)[0][0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return "ok"
        raise


def _probe(path: Path) -> None:
    """Write something beside the file. Raises OSError."""
    if not os.access(path, os.W_OK):
        raise PermissionError(13, os.strerror(13), str(path))
    with tempfile.TemporaryFile(dir=path.parent) as file:
        file.write(bytes(PROBE_BYTES))


def _ask_server() -> Trouble | None:
    with time_limit(ANSWER_SECONDS), connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM django_migrations LIMIT 1")
    return None


def note(error: BaseException) -> None:
    """Leave word of trouble that the worker has met, for those who look; no row of the database could say so."""
    trouble = trouble_of(error)
    if trouble is None:
        return
    with suppress(OSError), os.fdopen(os.open(_note(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(trouble), file)


def forget() -> None:
    """The worker goes on."""
    _note().unlink(missing_ok=True)


def noted() -> Trouble | None:
    """Return what the worker has met; it writes anew each time that it tries again."""
    try:
        if time.time() - _note().stat().st_mtime < NOTE_SECONDS:
            return Trouble(**json.loads(_note().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    return None


def _note() -> Path:
    return Path(settings.NAVEMBED_HOME) / "database_trouble.json"


class Watch:
    """Looks again and again, in a thread, and remembers what it has found: who asks never waits for the database."""

    def __init__(self) -> None:
        self._found: Trouble | None = None
        self._looking_since: float | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="database-look", daemon=True).start()

    def trouble(self) -> Trouble | None:
        """Return what is wrong with the database, as of some seconds ago; None also where nobody looks."""
        began = self._looking_since
        if began is not None and time.monotonic() - began > STUCK_SECONDS:
            return Trouble("does not answer", f"for {time.monotonic() - began:.0f} s", "Look at its disk or server.")
        return self._found

    def _run(self) -> None:
        while True:
            self._looking_since, spent = time.monotonic(), time.thread_time()
            try:
                self._found = look() or noted()
            except Exception:
                logger.exception("The database could not be looked at")
            finally:
                connection.close()  # the thread's own
            self._looking_since = None
            time.sleep(max(PAUSE_SECONDS, PAUSE_TIMES * (time.thread_time() - spent)))


watch = Watch()


def for_console(_: HttpRequest) -> dict[str, Trouble | None]:
    """Give templates what is wrong with the database."""
    return {"database_trouble": watch.trouble()}
