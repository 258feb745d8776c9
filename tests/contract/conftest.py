"""One real instance for all tests of the contract: every process of `serve`, tiny models, a small Navidrome library."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from batches.selectors.last_known import FRESH_SECONDS
from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.batches.conftest import Music
from tests.contract.client import GoClient
from tests.freezing import freeze
from tests.instance.conftest import Instance, eventually, migrated_database
from tests.instances import checkpoints
from tests.navidrome_db import make_navidrome

__all__ = ["checkpoints", "eventually", "migrated_database"]

RATE = 24_000
SHORT, LONG = 10, 16
"""Tracks of three seconds, embedded before the tests; tracks of a minute, which keep a batch running."""

TERMINAL = ("completed", "completed_with_errors", "cancelled", "failed")
PATIENCE_SECONDS = 300.0


@dataclass
class Server:
    """The instance, its library and a client of the Go server's."""

    instance: Instance
    music: Music
    go: GoClient

    def wait(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Poll until the progress fulfils ``condition``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition(progress := self.go.progress()):
            assert time.monotonic() < deadline, progress
            time.sleep(0.1)
        return progress

    def run_to_end(self, *models: str, clear: bool = False) -> dict[str, Any]:
        assert self.go.start(*models, clear=clear).status == 200
        return self.wait(has_ended)

    def warm_up(self) -> None:
        """Search once by each port: on a busy machine the first time takes longer than the Go server waits."""
        for port in self.instance.ports:
            go, deadline = GoClient(port), time.monotonic() + PATIENCE_SECONDS
            models = ["muq", "mert", "latent"]
            while not go.playlist(seeds=[{"track_id": "track0"}], models=models).json["tracks"]:
                assert time.monotonic() < deadline
            go.close()

    def start_long(self) -> int:
        """Have a batch running, in the middle of its work; returns the job's id."""
        for _ in range(10):
            if has_ended(self.go.progress()):
                assert self.go.start(clear=True).status == 200  # another job goes on with what one has built
            now = self.wait(lambda now: now["current_track"] or has_ended(now))
            if not has_ended(now):
                return int(now["job_id"])
        raise AssertionError(f"no job lasts: {now}")

    @contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Let the process ``name`` do nothing meanwhile."""
        pid = self.instance.processes()[name]["pid"]
        freeze(pid)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Have no job unfinished."""
        if not has_ended(self.go.progress()):
            self.go.cancel()
            self.wait(has_ended)


def has_ended(progress: dict[str, Any]) -> bool:
    return progress["status"] in (*TERMINAL, "no_job")


@contextmanager
def _home(migrated_database: Path) -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="nt-", dir="/tmp"))  # short: unix sockets lie in it
    shutil.copy(migrated_database, home)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _serving(home: Path, environment: dict[str, str], *options: str) -> Iterator[Instance]:
    instance = _instance(home, environment)
    try:
        started = instance.run("serve", "--detach", *options)
        assert started.returncode == 0, started.stderr
        yield instance
        instance.run("stop")
    finally:
        instance.end()


@pytest.fixture(scope="package")
def server(migrated_database: Path, checkpoints: dict[str, Path]) -> Iterator[Server]:
    """The short tracks are embedded, a damaged one has failed, the long ones are there to be embedded."""
    with _home(migrated_database) as home:
        music = _make_music(home)
        with _serving(home, _weights(checkpoints) | music.environment | {"NAVEMBED_LIBRARY": "navidrome"}) as instance:
            made = Server(instance, music, GoClient(instance.port))
            ended = made.run_to_end()
            assert (ended["status"], ended["processed_tracks"]) == ("completed_with_errors", SHORT), ended
            made.warm_up()
            for number in range(LONG):
                music.add(f"long{number:02}.flac", seed=SHORT + number % 2, duration=60.0)
            yield made
            made.go.close()


@pytest.fixture
def go(server: Server) -> GoClient:
    return server.go


TEXT_PORT, RUNNING = "text port", "while a batch is running"
EVERYWHERE = pytest.mark.parametrize("port", ["idle", TEXT_PORT, RUNNING], indirect=True)
"""On either port, and beside a job. One application answers on both, so it is for one test of each kind of call."""


@pytest.fixture(scope="module")
def port(request: pytest.FixtureRequest, server: Server) -> Iterator[int]:
    """The web server's, without an unfinished job unless the test is EVERYWHERE."""
    state = getattr(request, "param", "idle")
    if state == RUNNING:
        server.start_long()
    else:
        server.stop()
    web, text = server.instance.ports
    yield text if state == TEXT_PORT else web
    server.stop()


@pytest.fixture
def client(port: int) -> Iterator[GoClient]:
    """A new connection."""
    client = GoClient(port)
    yield client
    client.close()


@pytest.fixture
def idle(server: Server) -> Iterator[Server]:
    """The server without an unfinished job, before and after the test."""
    server.stop()
    yield server
    server.stop()


@dataclass
class Bare:
    """An instance of which only the web server runs: a job that is started there stays where it is."""

    instance: Instance
    go: GoClient

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.instance.home / "navembed.sqlite3", timeout=60)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def put(self, job: int, state: str) -> None:
        """Let the job be in this state."""
        ended = "CURRENT_TIMESTAMP" if state in TERMINAL else "NULL"
        self.sql(f"UPDATE batches_batchjob SET status = ?, finished_at = {ended} WHERE id = ?", state, job)
        time.sleep(FRESH_SECONDS)  # what was asked before is told no more


@pytest.fixture(scope="package")
def bare_instance(migrated_database: Path, checkpoints: dict[str, Path]) -> Iterator[Bare]:
    with _home(migrated_database) as home:
        (home / "music").mkdir()
        library = {"NAVEMBED_LIBRARY": "folder", "NAVIDROME_MUSIC_ROOT": str(home / "music")}
        with _serving(home, _weights(checkpoints) | library, "--only", "web,text") as instance:
            made = Bare(instance, GoClient(instance.port))
            yield made
            made.go.close()


@pytest.fixture
def bare(bare_instance: Bare) -> Bare:
    """Nobody has ever started a job."""
    for table in ("batches_jobevent", "batches_modelprogress", "batches_trackresult", "batches_batchjob"):
        bare_instance.sql(f"DELETE FROM {table}")
    time.sleep(FRESH_SECONDS)
    return bare_instance


def _weights(checkpoints: dict[str, Path]) -> dict[str, str]:
    return {f"NAVEMBED_{key.upper()}": str(folder) for key, folder in checkpoints.items()}


def _instance(home: Path, environment: dict[str, str]) -> Instance:
    usual = {"NAVEMBED_HOME": str(home), "TEXT_EMBEDDING_DEVICE": "cpu", "DATABASE_URL": ""}
    return Instance(home, usual | {"NAVEMBED_DECODE_PROCESSES": "1"} | environment)


def _make_music(home: Path) -> Music:
    (home / "music").mkdir()
    database = make_navidrome(home / "navidrome.db", libraries={1: str(home / "music")}, journal="delete")
    lengths = [3.0] * SHORT + [60.0] * 2
    pool = [home / f"{number}.flac" for number in range(len(lengths))]
    for number, (path, seconds) in enumerate(zip(pool, lengths, strict=True)):
        write_audio(path, tone(seconds, RATE, seed=number), RATE)
    music = Music(home / "music", database, pool)
    for number in range(SHORT):
        music.add(f"track{number}.flac", seed=number, artist=f"Artist {number % 3}")
    music.add_damaged()
    return music
