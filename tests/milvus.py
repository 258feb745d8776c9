"""The real Lite server as a process of its own. Import the fixtures that you use into a conftest.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.freezing import freeze

MANAGE = Path(__file__).resolve().parent.parent / "manage.py"


class LiteServer:
    """``manage.py milvus_lite`` over an instance folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "milvus.sock"
        self.folder = home / "milvus.db"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: bool = True) -> subprocess.Popen[bytes]:
        environment = os.environ | {"NAVEMBED_HOME": str(self.home)}
        with (self.home / "milvus.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(MANAGE), "milvus_lite"],
                env=environment,
                stdin=subprocess.PIPE,  # never written to; its end would tell the server that we have died
                stdout=log,
                stderr=log,
            )
        if wait:
            self.wait_for_log("Milvus Lite serves")
        return self.process

    def log(self) -> str:
        return (self.home / "milvus.log").read_text()

    def wait_for_log(self, text: str, times: int = 1) -> None:
        for _ in range(2400):
            if self.log().count(text) >= times:
                return
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            time.sleep(0.05)
        raise AssertionError(f"{text!r} never appeared: {self.log()}")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        if number == signal.SIGSTOP:
            freeze(self.process.pid)
        else:
            self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.send(number)
        assert self.process is not None
        with self.process:  # closes its pipe
            code = self.process.wait(120)
        (self.home / "milvus.log").write_text("")
        return code

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None


@cache
def shared_server() -> LiteServer:
    """One server for the tests of all folders; a start takes seconds."""
    return LiteServer(Path(tempfile.mkdtemp(prefix="nm-", dir="/tmp")))  # short: a unix socket lies in it


@pytest.fixture(scope="session")
def lite_server() -> Iterator[LiteServer]:
    server = shared_server()
    yield server
    if server.running:
        server.send(signal.SIGCONT)
        server.end(signal.SIGKILL)
    shutil.rmtree(server.home, ignore_errors=True)


@pytest.fixture
def milvus(settings: Any, lite_server: LiteServer) -> LiteServer:
    """The settings name a running, empty Milvus, which the test may kill or freeze."""
    from embeddings.index.store import VectorStore

    settings.MILVUS_URI = ""
    settings.MILVUS_LITE_SOCKET = lite_server.socket
    settings.MILVUS_LITE_FOLDER = lite_server.folder
    if lite_server.running:
        lite_server.send(signal.SIGCONT)
    else:
        lite_server.start()
    store = VectorStore()
    for name in store.collections():
        store._write("drop_collection", name)
    return lite_server
