"""Has programs running for as long as a command needs them."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from navembed_site.errors import NavembedError
from navembed_site.instance.programs import LOG_BYTES, Program, programs

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 2.0  # that somebody at a terminal waits before being told for what
READY_SECONDS = 180.0  # importing torch from a cold, slow disk takes a minute


class ProcessStartError(NavembedError):
    """A process that a command needs ended or did not become ready."""


@contextmanager
def needed_processes(*names: str, ready_seconds: float = READY_SECONDS) -> Iterator[None]:
    """Run the programs ``names``, ready, inside the block; "embedder" means those of all devices.

    What runs already is used. The rest, also what ends meanwhile, runs as child processes of this one.
    Raises ProcessStartError when one ends before it is ready, or is not ready after ``ready_seconds``.
    """
    keeper = _Keeper([program for program in programs().values() if program.kind in names])
    keeper.start()
    try:
        keeper.wait_until_ready(ready_seconds)
        yield
    finally:
        keeper.stop()


class _Keeper(threading.Thread):
    """Starts, restarts and stops the programs that nobody else runs.

    One thread does it all because the kernel's parent-death signal comes when the starting *thread* ends.
    """

    def __init__(self, wanted: Iterable[Program]) -> None:
        super().__init__(name="processes", daemon=True)
        self._wanted = list(wanted)
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = threading.Event()
        self._failed: Program | None = None
        self._all_ready = False

    def run(self) -> None:
        while not self._stopping.wait(0.2 if not self._all_ready else 2):
            for program in self._wanted:
                self._keep(program)
        self._stop_children()

    def wait_until_ready(self, seconds: float) -> None:
        began, told = time.monotonic(), not sys.stderr.isatty()
        while late := ", ".join(program.name for program in self._wanted if not program.is_ready):
            if self._failed:
                raise ProcessStartError(f"{self._failed.name} ended at its start: {_last_line(self._failed.log)}")
            waited = time.monotonic() - began
            if waited > PATIENCE_SECONDS and not told:
                told = True
                sys.stderr.write(f"Starting {late} …\n")
            if waited > seconds:
                raise ProcessStartError(f"Not ready after {seconds:.0f} s: {late}. See {settings.LOG_DIR}.")
            time.sleep(0.1)
        self._all_ready = True

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _keep(self, program: Program) -> None:
        child = self._children.get(program.name)
        if child and child.poll() is None:
            return
        if child:
            _end(self._children.pop(program.name), 0)
            logger.warning("%s ended with %s.", program.name, child.returncode)
            if not self._all_ready:
                self._failed = program
                return
        if not program.is_running and self._failed is None:
            self._children[program.name] = _start(program)

    def _stop_children(self) -> None:
        for last in (False, True):
            stopped = [p for p in self._wanted if p.name in self._children and p.stops_last is last]
            for program in stopped:
                self._children[program.name].terminate()
            for program in stopped:
                _end(self._children[program.name], program.stop_seconds)


def _start(program: Program) -> subprocess.Popen[bytes]:
    program.log.parent.mkdir(parents=True, exist_ok=True)
    if program.log.exists() and program.log.stat().st_size > LOG_BYTES:
        program.log.replace(program.log.with_name(f"{program.log.name}.1"))
    with program.log.open("ab") as log:
        # A session of its own: Ctrl-C reaches the command alone, which then stops its children in order.
        return subprocess.Popen(
            program.command,
            stdin=subprocess.PIPE,  # never written to; see die_with_parent
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a child that was asked to end; kill it after ``seconds``."""
    with child:  # closes its pipe
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return f"{lines[-1] if lines else 'it said nothing'} (see {log})"
