"""The processes of one instance: what they are, who runs them now, and how to have one for a while.

Every program takes the lock of its name for as long as it lives, so at most one works at a time and another
waits to take over. ``serve`` hands the table to supervisor, ``needed_processes`` runs a part of it.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

from django.conf import settings

from embeddings.errors import NavembedError
from navembed_site import heartbeat
from navembed_site.locks import is_held

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1
LOG_BYTES = 10 * 2**20
beat = heartbeat.beat  # for tasks, beside stop_requested
LOOK_SECONDS = 2.0  # how often a server looks after the file of its socket
PATIENCE_SECONDS = 2.0  # that somebody at a terminal waits before being told for what
READY_SECONDS = 180.0  # importing torch from a cold, slow disk takes a minute

_stopping: Event | None = None


class ProcessStartError(NavembedError):
    """A process that a command needs ended or did not become ready."""


@dataclass(frozen=True)
class Program:
    """A long-running ``manage.py`` command. ``socket``: accepts connections when it is ready."""

    name: str
    arguments: tuple[str, ...]
    socket: Path | None = None
    stop_seconds: int = 4  # with those of the services below: everything within 15 s
    stops_last: bool = False  # others use it until they end

    @property
    def kind(self) -> str:
        """The name without a device's number."""
        return self.name.partition("-")[0]

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(settings.BASE_DIR / "manage.py"), *self.arguments]

    @property
    def log(self) -> Path:
        return Path(settings.LOG_DIR) / f"{self.name}.log"

    @property
    def is_running(self) -> bool:
        """Whether some process does this program's work now; not whether it is ready."""
        return is_held(self.name) or bool(self.socket and accepts(self.socket))

    @property
    def is_ready(self) -> bool:
        return accepts(self.socket) if self.socket else self.is_running


def programs() -> dict[str, Program]:
    """Every program of this instance by name, in the order in which they start."""
    from embeddings.embedder.client import socket_path

    table = []
    if not settings.MILVUS_URI:
        table.append(
            Program("milvus_lite", ("milvus_lite",), settings.MILVUS_LITE_SOCKET, stop_seconds=6, stops_last=True)
        )
    for index in range(len(settings.DEVICES)):
        arguments = ("embedder", "--device-index", str(index))
        table.append(Program(f"embedder-{index}", arguments, socket_path(index), stops_last=True))
    table.append(Program("worker", ("worker",)))
    table.append(Program("light", ("worker", "--light")))
    table.append(Program("web", ("web", "--port", str(settings.PORT))))
    table.append(Program("text", ("web", "--port", str(settings.TEXT_PORT))))
    return {program.name: program for program in table}


def accepts(path: Path) -> bool:
    """Whether a server accepts connections on the unix socket ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def end_without(path: Path) -> None:
    """Ask this process to end when its unix socket ``path`` is deleted, or somebody else's lies there.

    Nobody could reach it any more; who started it starts another.
    """

    def inode() -> int | None:
        try:
            return path.stat().st_ino
        except FileNotFoundError:
            return None

    def watch(made: int | None) -> None:
        while inode() == made:
            time.sleep(LOOK_SECONDS)
        logger.critical("%s was deleted; this process ends, to be started again.", path)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=(inode(),), name="socket", daemon=True).start()


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends. Does nothing outside Linux.

    Who starts our programs keeps the other end of their standard input: if that is closed, the parent died
    before this call, and the process ends at once.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    stdin = select.poll()
    stdin.register(0, 0)  # a hang-up is always reported
    if any(event & select.POLLHUP for _, event in stdin.poll(0)):
        os._exit(1)


def tie_forks_to_parent() -> None:
    """Let every process forked from now on, and their forks, die with its parent."""
    parent = [0]

    def remember() -> None:
        parent[0] = os.getpid()

    def tie() -> None:
        die_with_parent()
        if os.getppid() != parent[0]:
            os._exit(1)  # it died before the kernel knew

    os.register_at_fork(before=remember, after_in_child=tie)


def announce_stops() -> Event:
    """Return an event that makes ``stop_requested`` true here and in every process forked later."""
    global _stopping  # noqa: PLW0603  (forked tasks have no other way to find it)
    _stopping = multiprocessing.Event()
    return _stopping


def stop_requested() -> bool:
    """Whether the worker that runs this task was asked to stop: end soon, at a point that loses nothing."""
    return _stopping is not None and _stopping.is_set()


@contextmanager
def needed_processes(*names: str, ready_seconds: float = READY_SECONDS) -> Iterator[None]:
    """Have the programs ``names`` running and ready inside the block; "embedder" means those of all devices.

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


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
