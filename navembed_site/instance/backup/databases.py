"""A consistent copy of the database while others write to it, and back: SQLite's backup, PostgreSQL's pg_dump."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

from django.conf import settings
from django.db import connection, transaction
from django.db.backends.postgresql.client import DatabaseClient

from navembed_site.instance.backup.archive import PIECE, BackupError, require_free_disk, sync_folder

PAGES_A_STEP = 4096
COMPANIONS = ("-wal", "-shm", "-journal")
SQLITE_KINDS = ("CREATE TABLE ", "CREATE INDEX ", "CREATE UNIQUE INDEX ")
POSTGRESQL_KINDS = {
    "TABLE", "TABLE DATA", "DEFAULT", "CONSTRAINT", "FK CONSTRAINT", "INDEX", "SEQUENCE",
    "SEQUENCE OWNED BY", "SEQUENCE SET",
}  # fmt: skip
OF_THE_SERVER = {"COMMENT", "EXTENSION", "SCHEMA"}  # are left out: the other server has its own
FOREIGN = (
    "The database in the backup holds {what}, which navembed never makes. It may run code of somebody else's; nothing "
    "was restored."
)


def size() -> int:
    """Bytes that the database takes."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
        return int(cursor.fetchone()[0])


def dump(target: Path, tables: Mapping[str, str]) -> dict[str, int]:
    """Write the database as of now to the new file ``target``; returns the rows in it of each of ``tables``."""
    return _dump_postgresql(target, tables) if connection.vendor == "postgresql" else _dump_sqlite(target, tables)


def restore(content: IO[bytes], size: int, without: Collection[str] = ()) -> None:
    """Restores what ``dump`` wrote, and empties the tables ``without``. Nobody may use the database meanwhile.

    Raises BackupError, also when more is in it than tables and indexes: what else there is runs by itself.
    """
    if connection.vendor == "postgresql":
        _restore_postgresql(content, without)
    else:
        _restore_sqlite(content, size, without)


def exists() -> bool:
    """Whether there is a database, readable or not."""
    return connection.vendor == "postgresql" or _sqlite_path().stat().st_size > 0


def _sqlite_path() -> Path:
    return Path(settings.DATABASES["default"]["NAME"])


def _dump_sqlite(target: Path, tables: Mapping[str, str]) -> dict[str, int]:
    uri = f"file:{quote(str(_sqlite_path()))}?mode=rw"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as source,
        closing(sqlite3.connect(target, isolation_level=None)) as copy,
    ):
        # Without a transaction that stays open, each write of somebody else would let the copy begin anew.
        copy.execute("PRAGMA synchronous=OFF")  # only the finished file must survive
        source.execute("BEGIN")
        source.execute("SELECT 1 FROM sqlite_master").fetchone()
        source.backup(copy, pages=PAGES_A_STEP, progress=_interruptible)
        source.execute("ROLLBACK")
        return _counts(tables, lambda sql: copy.execute(sql).fetchone()[0])


def _interruptible(*_: Any) -> None:
    """Python sees Ctrl-C only in code of its own."""


def _restore_sqlite(content: IO[bytes], size: int, without: Collection[str] = ()) -> None:
    path = _sqlite_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_free_disk(path.parent, size)
    new = path.with_name(f"{path.name}.restoring")
    new.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            shutil.copyfileobj(content, file, PIECE)
            file.flush()
            os.fsync(file.fileno())
        _prepare_sqlite(new, without)
        # First the old database, then its journals: at no moment stands one beside another's.
        for suffix in ("", *COMPANIONS):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        new.replace(path)
    finally:
        for suffix in ("", *COMPANIONS):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)


def _prepare_sqlite(path: Path, without: Collection[str]) -> None:
    """Empty the tables ``without`` in the file ``path``. Raises BackupError when it holds more than tables."""
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as database:
            # What a row calls itself counts for nothing: SQLite makes what its text says.
            entries = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
            for name, sql in entries:
                if not sql.startswith(SQLITE_KINDS):
                    raise BackupError(FOREIGN.format(what=f"{name!r} ({sql.partition(name)[0].strip()})"))
            database.execute("PRAGMA journal_mode=DELETE")
            for table in {name for name, _ in entries}.intersection(without):
                database.execute(f'DELETE FROM "{table}"')  # noqa: S608
    except sqlite3.Error as error:
        raise BackupError(f"The database in the backup cannot be read: {error}") from error


def _dump_postgresql(target: Path, tables: Mapping[str, str]) -> dict[str, int]:
    with transaction.atomic(), connection.cursor() as cursor, target.open("xb") as file:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT pg_export_snapshot()")
        snapshot = cursor.fetchone()[0]
        options = ["--format=custom", "--compress=1", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        _run_postgresql("pg_dump", options, stdout=file)

        def count(sql: str) -> int:
            cursor.execute(sql)
            return int(cursor.fetchone()[0])

        return _counts(tables, count)


def _restore_postgresql(content: IO[bytes], without: Collection[str] = ()) -> None:
    options = ["--clean", "--if-exists", "--no-owner", "--no-privileges", "--single-transaction"]
    with tempfile.NamedTemporaryFile("w+b") as contents:
        _run_postgresql("pg_restore", ["--list"], content=content, stdout=contents)
        contents.seek(0)
        wanted = _wanted(contents.read().decode().splitlines(), without)
        contents.seek(0)
        contents.truncate()
        contents.write("\n".join(wanted).encode())
        contents.flush()
        content.seek(0)
        _run_postgresql("pg_restore", [*options, f"--use-list={contents.name}"], content=content)


def _wanted(entries: Iterable[str], without: Collection[str]) -> Iterator[str]:
    """Leave out of an archive's list the rows of the tables ``without``. Raises BackupError for a foreign entry."""
    for entry in entries:
        if not (found := re.fullmatch(r"\d+; \d+ \d+ ([A-Z ]+) \S+ (.*) \S*", entry)):
            continue
        kind, name = found.groups()
        if kind not in POSTGRESQL_KINDS | OF_THE_SERVER:
            raise BackupError(FOREIGN.format(what=f"{name!r} ({kind})"))
        if kind in POSTGRESQL_KINDS and not (kind == "TABLE DATA" and name in without):
            yield entry


def _run_postgresql(program: str, options: list[str], *, content: IO[bytes] | None = None, stdout: Any = None) -> None:
    """Run a program of PostgreSQL on our database. The password goes by the environment. Raises BackupError."""
    arguments, environment = DatabaseClient.settings_to_cmd_args_env(connection.settings_dict, [])
    command = [program, *options, "--no-password", *arguments[1:-1], "--dbname", arguments[-1]]
    with tempfile.TemporaryFile() as told:
        try:
            process = subprocess.Popen(
                command, env={**os.environ, **(environment or {})}, stdin=subprocess.PIPE, stdout=stdout, stderr=told
            )
        except FileNotFoundError:
            raise BackupError(f"{program} is not on the PATH; it comes with PostgreSQL.") from None
        # A pipe that breaks: it has ended, and its status tells why.
        with process, suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stdin:
            if content:
                shutil.copyfileobj(content, stdin, PIECE)
        told.seek(0)
        if process.returncode:
            raise BackupError(f"{program} failed: {told.read().decode(errors='replace').strip()}")


def _counts(tables: Mapping[str, str], count: Callable[[str], int]) -> dict[str, int]:
    return {name: count(f'SELECT count(*) FROM "{table}"') for name, table in tables.items()}  # noqa: S608
