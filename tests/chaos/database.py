"""The database of a run as plain SQL: a file of SQLite, or one on the PostgreSQL server of ``tests.postgres``."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import psutil
import psycopg

from tests.instance.conftest import MANAGE

Rows = list[tuple[Any, ...]]
Release = Callable[[], object]

SERVER = os.environ.get("NAVEMBED_TEST_DATABASE_URL", "")
COLUMNS = "NEW.space_id, NEW.track_id, NEW.audio_hash"
# Every write of a vector, in the transaction that makes it: what was computed again shows here.
SQLITE_LOG = f"""
CREATE TABLE chaos_log (id INTEGER PRIMARY KEY, space INTEGER, track TEXT, audio TEXT);
CREATE TRIGGER chaos_insert AFTER INSERT ON embeddings_embedding BEGIN
    INSERT INTO chaos_log (space, track, audio) VALUES ({COLUMNS}); END;
CREATE TRIGGER chaos_update AFTER UPDATE OF vector ON embeddings_embedding BEGIN
    INSERT INTO chaos_log (space, track, audio) VALUES ({COLUMNS}); END;
"""
POSTGRES_LOG = f"""
CREATE TABLE chaos_log (id BIGSERIAL PRIMARY KEY, space BIGINT, track TEXT, audio TEXT);
CREATE FUNCTION chaos_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_log (space, track, audio) VALUES ({COLUMNS}); RETURN NULL; END $$;
CREATE TRIGGER chaos_log AFTER INSERT OR UPDATE OF vector ON embeddings_embedding
    FOR EACH ROW EXECUTE FUNCTION chaos_log();
"""


class Database(Protocol):
    url: str
    """What DATABASE_URL says of it."""

    def rows(self, query: str, *values: object) -> Rows: ...
    def damage(self) -> list[str]:
        """Return what the database finds wrong with itself."""

    def lock(self) -> Release | None:
        """Keep everybody from writing, not from reading; None when it is being written to just now."""

    def freeze(self, seconds: float) -> bool:
        """Freezes its server for a while; False when it has none."""

    def close(self) -> None:
        """Delete it, if it lies outside of the instance's folder."""


class SQLite:
    url = ""

    def __init__(self, home: Path, template: Path) -> None:
        self._path = home / "navembed.sqlite3"
        shutil.copy(template / "navembed.sqlite3", self._path)

    def rows(self, query: str, *values: object) -> Rows:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=60)) as connection:
            return connection.execute(query, values).fetchall()

    def damage(self) -> list[str]:
        return [str(line) for (line,) in self.rows("PRAGMA integrity_check") if line != "ok"]

    def lock(self) -> Release | None:
        connection = sqlite3.connect(self._path, timeout=0.1, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # a worker's lock, or one of ours that is not undone yet
            connection.close()
            return None
        return connection.close

    def freeze(self, seconds: float) -> bool:
        return False

    def close(self) -> None:
        pass


class PostgreSQL:
    def __init__(self, name: str, template: str = "template1") -> None:
        self._name = name
        self.url = _url(name)
        _maintain(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def rows(self, query: str, *values: object) -> Rows:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.replace("?", "%s").encode(), values).fetchall()

    def damage(self) -> list[str]:
        return []

    def lock(self) -> Release | None:
        tables = "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE schemaname = 'public'"
        ((names,),) = self.rows(tables)
        connection = psycopg.connect(self.url, options="-c lock_timeout=100")
        try:
            connection.execute(f"LOCK TABLE {names} IN EXCLUSIVE MODE".encode())
        except psycopg.errors.LockNotAvailable:
            connection.close()
            return None
        return connection.close

    def freeze(self, seconds: float) -> bool:
        """A timer ends it: those who ask for rows meanwhile wait."""
        folder = Path(unquote(urlsplit(self.url).netloc.rpartition("@")[2]))
        server = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
        frozen = [server, *server.children(recursive=True)]
        _signal(frozen, signal.SIGSTOP)
        threading.Timer(seconds, _signal, [frozen, signal.SIGCONT]).start()
        return True

    def close(self) -> None:
        _maintain(f'DROP DATABASE "{self._name}" WITH (FORCE)')


def _url(name: str) -> str:
    return f"{SERVER.rpartition('/')[0]}/{name}"


def _maintain(statement: str) -> None:
    with psycopg.connect(_url("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


class Template:
    """An empty database of the current schema, which logs every vector that is written, to be copied."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._copies = 0
        url = PostgreSQL("chaos").url if SERVER else ""
        environment = {**os.environ, "NAVEMBED_HOME": str(folder), "DATABASE_URL": url}
        subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=environment, check=True)
        if SERVER:
            with psycopg.connect(url) as connection:
                connection.execute(POSTGRES_LOG.encode())
        else:
            with closing(sqlite3.connect(folder / "navembed.sqlite3")) as file:
                file.executescript(SQLITE_LOG)

    def copy(self, home: Path) -> Database:
        self._copies += 1
        return PostgreSQL(f"chaos{self._copies}", "chaos") if SERVER else SQLite(home, self._folder)
