"""Tiny checkpoints and the real embedder over them. Import the fixtures into a conftest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from embeddings.embedder.client import socket_path
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.demo.checkpoints import make_tiny_checkpoints
from navembed_site.process.unix_socket import accepts
from tests.freezing import freeze
from tests.sharing import made_once


class EmbedderProcess:
    """``manage.py embedder`` of the tests' instance, with tiny models on the CPU."""

    def __init__(self, checkpoints: dict[str, Path]) -> None:
        self.socket = socket_path()
        self._log = settings.NAVEMBED_HOME / "embedder.log"
        self._usual = {f"NAVEMBED_{key.upper()}": str(folder) for key, folder in checkpoints.items()}
        self._usual |= {"TEXT_EMBEDDING_DEVICE": "cpu", "NAVEMBED_DECODE_PROCESSES": "2"}
        self._environment = self._usual
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def as_usual(self) -> bool:
        """Whether it runs, with the environment that tests expect."""
        return self.running and self._environment == self._usual

    def log(self) -> str:
        return self._log.read_text()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal; unless it only pauses, wait for the end and return the exit code."""
        assert self._process is not None
        if number == signal.SIGSTOP:
            freeze(self._process.pid)
            return 0
        self._process.send_signal(number)
        if number == signal.SIGCONT:
            return 0
        with self._process:  # closes its pipe
            return self._process.wait(120)

    def restart(self, *, wait: bool = True, first: str = "", **environment: str) -> None:
        """Start it, after an end of the one that runs. ``environment`` is added to the usual one.

        ``first``: Python that it runs before anything else, to be less patient than usual.
        """
        if self.running:
            self.kill()
        self._environment = self._usual | environment | ({"FIRST": first} if first else {})
        manage = [str(settings.BASE_DIR / "manage.py"), "embedder"]
        if first:
            run = (
                "import os, django; from django.core.management import execute_from_command_line as run; django.setup()"
            )
            manage = ["-c", f"{run}; exec(os.environ['FIRST']); run({manage})"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *manage],
                env=os.environ | self._environment,
                stdin=subprocess.PIPE,  # never written to; its end would tell the embedder that we have died
                stdout=log,
                stderr=log,
            )
        while wait and not accepts(self.socket):
            assert self.running, self.log()
            time.sleep(0.05)


@cache
def shared_checkpoints() -> dict[str, Path]:
    """Folders by model key."""
    folder = made_once("tiny", make_tiny_checkpoints)
    return {key: folder / key for key in MODEL_KEYS}


@cache
def shared_embedder() -> EmbedderProcess:
    return EmbedderProcess(shared_checkpoints())


@pytest.fixture(scope="session")
def checkpoints() -> dict[str, Path]:
    return shared_checkpoints()


@pytest.fixture(scope="session")
def embedder_process() -> Iterator[EmbedderProcess]:
    yield shared_embedder()
    if shared_embedder().running:
        shared_embedder().kill()


@pytest.fixture
def embedder(embedder_process: EmbedderProcess) -> EmbedderProcess:
    """The running embedder, which the test may kill, freeze or restart."""
    process = embedder_process
    if process.as_usual:
        process.kill(signal.SIGCONT)
    else:
        process.restart()
    return process
