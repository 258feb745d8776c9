"""Real instances: each a folder of its own, driven through manage.py like an operator does."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from tests.sharing import made_once

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]


def _reserve_port() -> socket.socket:
    """Return a socket whose port nobody on this machine is given while it is open; a server may listen on it beside."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; two may share it, one may listen
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _ports() -> list[socket.socket]:
    return [_reserve_port(), _reserve_port()]


@dataclass
class Instance:
    """An instance in ``home`` with two ports of its own. ``environment`` is added to the tests' own.

    ``prefix`` is what its commands are run by, as ``nsenter`` in a network of its own.
    """

    home: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)
    reserved: list[socket.socket] = field(default_factory=_ports)
    prefix: Sequence[str] = ()

    def __post_init__(self) -> None:
        names = ("NAVIDROME_RECOMMENDER_PORT", "TEXT_EMBEDDING_PORT")
        self.environment = self.environment | {name: str(port) for name, port in zip(names, self.ports, strict=True)}

    @property
    def ports(self) -> tuple[int, ...]:
        """Those of ``web`` and ``text``."""
        return tuple(each.getsockname()[1] for each in self.reserved)

    @property
    def port(self) -> int:
        return self.ports[0]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *MANAGE, *arguments],
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str, code: str = "") -> subprocess.Popen[str]:
        """Start a command, or Python ``code`` in Django's shell, in a session of its own."""
        command = [*MANAGE, "shell", "--no-imports", "-c", code] if code else [*MANAGE, *arguments]
        process = subprocess.Popen(
            [*self.prefix, *command],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def processes(self) -> dict[str, dict[str, Any]]:
        states = json.loads(self.run("status", "--json").stdout)["processes"]
        return {state["name"]: state for state in states}

    def pids(self) -> set[int]:
        """Every living process whose NAVEMBED_HOME is this instance's."""
        mark = f"NAVEMBED_HOME={self.home}\0".encode()
        return {int(path.name) for path in Path("/proc").glob("[0-9]*") if mark in _environment_of(path)}

    def answers(self) -> bool:
        """Whether the sign-in page is served."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/admin/login/")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
        for pid in self.pids():
            os.kill(pid, signal.SIGKILL)
        for each in self.reserved:
            each.close()


def children(parent: int, word: str = "") -> list[int]:
    """Living children of ``parent`` whose command line contains ``word``."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_child = int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if is_child and word in (path / "cmdline").read_text():
                found.append(int(path.name))
        except OSError:  # it has just ended
            continue
    return found


def _environment_of(process: Path) -> bytes:
    try:
        return (process / "environ").read_bytes() + b"\0"
    except OSError:
        return b""


@pytest.fixture(scope="session")
def migrated_database() -> Path:
    """An empty database of the current schema, to be copied."""

    def migrate(home: Path) -> None:
        environment = {**os.environ, "NAVEMBED_HOME": str(home), "DATABASE_URL": ""}
        subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=environment, check=True)

    return made_once("migrated", migrate) / "navembed.sqlite3"


Beside = Callable[..., Instance]


@pytest.fixture
def beside(instance: Instance, migrated_database: Path) -> Iterator[Beside]:
    """Make another instance in a folder of this name inside the first one's, with what is added to its environment."""
    made: list[Instance] = []

    def make(name: str, **environment: str) -> Instance:
        home = instance.home / name
        home.mkdir(mode=0o700)
        shutil.copy(migrated_database, home)
        added = {"NAVEMBED_HOME": str(home), **environment}
        made.append(
            replace(instance, home=home, environment=instance.environment | added, started=[], reserved=_ports())
        )
        return made[-1]

    yield make
    for each in made:
        each.end()


def make_instance(home: Path, migrated_database: Path) -> Instance:
    """An instance in the empty folder ``home``, over a folder without music. Whoever makes it ends it."""
    (home / "music").mkdir()
    shutil.copy(migrated_database, home)
    return Instance(
        home=home,
        environment={
            "NAVEMBED_HOME": str(home),
            "NAVEMBED_LIBRARY": "folder",
            "NAVIDROME_MUSIC_ROOT": str(home / "music"),
            "TEXT_EMBEDDING_DEVICE": "cpu",
            "DATABASE_URL": "",
        },
    )


@pytest.fixture
def instance(short_tmp: Path, migrated_database: Path) -> Iterator[Instance]:
    made = make_instance(short_tmp, migrated_database)
    yield made
    made.end()


@pytest.fixture(scope="module")
def module_instance(migrated_database: Path) -> Iterator[Instance]:
    """One for all tests of a module, which leave it as they find it."""
    with tempfile.TemporaryDirectory(prefix="nt-", dir="/tmp") as home:
        made = make_instance(Path(home), migrated_database)
        yield made
        made.end()


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Wait until a condition holds; fail the test when it does not within a generous time."""

    def wait(condition: Callable[[], Any], seconds: float = 180) -> None:
        began = time.monotonic()
        deadline = began + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not come true in time"
            time.sleep(max(0.1, time.monotonic() - began))  # to ask a process may keep a core busy
            began = time.monotonic()

    return wait
