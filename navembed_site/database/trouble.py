"""What is wrong with the database, in a sentence: which one it is, what ails it, and what helps."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, InterfaceError, InternalError, OperationalError

RESTORE = (
    "`manage.py stop`, then `manage.py restore FILE --force` brings back a backup; "
    "docs/troubleshooting.md tells what else can be tried."
)
ROOM = "Make room there; nothing is lost meanwhile, and jobs go on by themselves."
RIGHTS = "Let the user who runs navembed read and write the file and its folder, on a disk that can be written."
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
DETAIL_CHARS = 200


@dataclass(frozen=True)
class Trouble:
    """``what`` ails the database, in words that anybody may hear; ``detail`` and ``advice`` are for its operator."""

    what: str
    detail: str
    advice: str

    def __str__(self) -> str:
        return f"The database {name()} {self.what}: {self.detail}. {self.advice}"


AWAY = ("cannot be reached", "Start PostgreSQL, make this database there, or mend DATABASE_URL.")
KINDS = (  # in what an error says, in lower case; the first that is found counts
    (("connection failed", "connection to server"), *AWAY),
    (("malformed", "not a database", "invalid page", "unsupported file format"), "is damaged", RESTORE),
    (("no such table", "does not exist"), "lacks a table", RESTORE),
    (("is full", "no space left", "quota"), "is on a full disk", ROOM),
    (("readonly", "read-only", "unable to open", "permission denied"), "cannot be written", RIGHTS),
    (("disk i/o", "input/output"), "is on a disk that fails or is full", "Look at the disk (`df`, `dmesg`)."),
    (("locked",), "is in use by another program", "End what holds it for so long, and try again."),
)
UNKNOWN = ("cannot be used", "docs/troubleshooting.md tells what can be tried.")


def name() -> str:
    """The database as its operator knows it; never a password."""
    database = settings.DATABASES["default"]
    if is_file():
        return str(database["NAME"])
    place = ":".join(filter(None, (database.get("HOST"), str(database.get("PORT") or ""))))
    return f"{database['NAME']!r} of PostgreSQL at {place or 'its usual socket'}"


def is_file() -> bool:
    return bool(settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"))


def trouble_of(error: BaseException | None) -> Trouble | None:
    """Return what an error tells about the state of the database; None for one that tells of our own mistake."""
    text = " ".join(str(error).split()).rstrip(".")[:DETAIL_CHARS]
    missing = isinstance(error, DatabaseError) and 'relation "' in text and "does not exist" in text
    if not missing and type(error) not in (DatabaseError, OperationalError, InternalError, InterfaceError):
        return None
    for signs, what, advice in KINDS:
        if any(sign in text.lower() for sign in signs):
            return Trouble(what, text, advice)
    return Trouble(*((UNKNOWN[0], text, UNKNOWN[1]) if is_file() else (AWAY[0], text, AWAY[1])))


def trouble_of_disk(error: OSError) -> Trouble:
    """Return what a failed write beside the database's file tells."""
    full = error.errno in FULL
    return Trouble("is on a full disk" if full else "cannot be written", str(error), ROOM if full else RIGHTS)


def trouble_of_emptied() -> Trouble | None:
    """Return what is wrong when a database without tables is that of an instance which has worked before."""
    traces = [str(trace) for trace in _traces()]
    if not traces:
        return None
    return Trouble(
        "is empty",
        f"the instance has worked before, as {' and '.join(traces)} tell",
        "`manage.py restore FILE` brings back a backup. In order to start anew, and to compute all vectors again, "
        "move these away first.",
    )


def _traces() -> Iterator[Path]:
    """What only a filled instance leaves in NAVEMBED_HOME."""
    collections = settings.MILVUS_LITE_FOLDER / "collections"
    if collections.is_dir() and any(collections.iterdir()):
        yield settings.MILVUS_LITE_FOLDER
    try:
        if "job_id" in json.loads((settings.NAVEMBED_HOME / "progress.json").read_text(encoding="utf-8")):
            yield settings.NAVEMBED_HOME / "progress.json"
    except (OSError, ValueError):
        pass
    spool = settings.CACHE_DIR / "spool"
    if spool.is_dir() and any(path.is_file() for path in spool.rglob("*")):
        yield spool


@contextmanager
def explained() -> Iterator[None]:
    """End with a sentence, instead of a traceback, when the database or the disk cannot be used."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        trouble = trouble_of(error)
        if trouble is None or "--traceback" in sys.argv:
            raise
        sys.exit(str(trouble))
    except OSError as error:
        if error.errno not in FULL | {errno.EROFS} or "--traceback" in sys.argv:
            raise
        where = error.filename or settings.NAVEMBED_HOME
        sys.exit(f"{where} cannot be written: {os.strerror(error.errno or 0)}. Make room there, or mend the disk.")
