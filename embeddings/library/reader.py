"""Lists folders and reads tags in a process that a file may crash, and a share may block, without harm to us."""

from __future__ import annotations

import itertools
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, cast

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import Tell, tell_nobody
from navembed_site.process.slow_calls import LOOK_SECONDS

logger = logging.getLogger(__name__)

COMMAND = [sys.executable, "-m", "embeddings.library.reader_process"]
MOST_BYTES = 512 * 2**20
"""Of address space: tags hold pictures, and compressed ones are a thousand times as large as their file."""
FILES_A_REQUEST = 500  # beyond one the process need not wait for us
QUIET_SECONDS = 5.0  # then it is said for what is waited
HANG_SECONDS = 120.0  # a disk that spins up, or a file that comes from a cloud, takes less
ANSWER_SECONDS = 10.0  # that a folder may take when one of its files hangs
END_SECONDS = 1.0
_PROJECT = Path(__file__).resolve().parents[2]
MOST_UNKILLABLE = 4
_unkillable: list[tuple[Path, subprocess.Popen[bytes]]] = []
"""Killed ones that hang in the kernel, on storage that does not answer, with the root of each."""


class Wanted(NamedTuple):
    """A file to be looked at."""

    path: str
    known: tuple[int, str] | None
    """Size and time with which it need not be opened."""


@dataclass(frozen=True)
class Found:
    """What became of it."""

    size: int = 0
    mtime: str = ""
    tags: dict[str, Any] | None = None
    """``title``, ``artist``, ``album``, ``genre``, ``duration``, as far as there; None when the file was not read."""
    gone: bool = False
    hanging: bool = False
    """It alone does not answer."""


class Looked(NamedTuple):
    """How a folder and some files answered."""

    is_there: bool
    """As ``folders.is_there``."""
    problems: list[OSError | None]
    """What keeps each file from being read."""


class _Died(Exception):
    """The process has ended without being asked to."""


class _Hangs(Exception):
    """It has not answered for so long that it will not."""


class Reader:
    """Reads below ``root``, used in a ``with``; ``tell`` is called about once a second, and stops it by raising.

    ``doing`` is what is told. Not thread-safe.
    """

    def __init__(self, root: Path, tell: Tell) -> None:
        self.root = root
        self.doing = ""
        self._tell = tell
        self._told = time.monotonic()
        self._waits_for = str(root)
        self._child: subprocess.Popen[bytes] | None = None
        self._received = b""

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def walk(self, path_prefix: str = "") -> Iterator[list[str]]:
        """Yield the audio files below the root whose path may begin so. Raises LibraryUnavailable."""
        self._waits_for = str(self.root)
        try:
            self._send({"walk": str(self.root), "path_prefix": path_prefix})
            while True:
                answer = self._receive()
                self._waits_for = answer.get("folder", self._waits_for)
                if reason := answer.get("left_out"):
                    logger.warning("%s", reason)
                if reason := answer.get("error"):
                    raise _unreadable(self._waits_for, reason)
                yield answer["files"]
                if "error" in answer:
                    return
        except _Hangs as error:
            raise _silent(self._waits_for) from error
        except _Died as death:
            raise _unreadable(self._waits_for, str(death)) from death

    def files(self, wanted: Iterable[Wanted]) -> Iterator[Found]:
        """Yield what is found of each file; one that makes the process die has no tags. Raises LibraryUnavailable."""
        left = deque(wanted)
        with_tags = True
        while left:
            some = [(*file, with_tags) for file in itertools.islice(left, FILES_A_REQUEST if with_tags else 1)]
            try:
                self._send({"files": some})
                for _ in some:
                    self._waits_for = left[0].path
                    found = self._found(self._receive())
                    left.popleft()
                    yield found
                with_tags = True
            except _Died as death:
                logger.warning("%r cannot be read: %s", self._waits_for, death)
                if not with_tags:
                    raise _unreadable(self._waits_for, str(death)) from death
                with_tags = False
            except _Hangs:
                self._require_answer(str(Path(self._waits_for).parent))
                left.popleft()
                yield Found(hanging=True)

    def _found(self, answer: dict[str, Any]) -> Found:
        if reason := answer.pop("error", ""):
            raise _unreadable(self._waits_for, reason)
        if reason := answer.pop("unreadable", ""):
            logger.debug("No tags of %r: %s", self._waits_for, reason)
        if reason := answer.pop("left_out", ""):
            logger.warning("%r is left out: %s.", self._waits_for, reason)
        return Found(**answer)

    def _require_answer(self, folder: str) -> None:
        """Raise LibraryUnavailable when not only a file hangs, but its folder, too."""
        self._end()
        self.look_at(folder, [], ANSWER_SECONDS)

    def look_at(self, folder: str, paths: Sequence[str], seconds: float) -> Looked:
        """Try to read a folder and some files, with so much time for each. Raises LibraryUnavailable."""
        self._waits_for = folder
        try:
            self._send({"root": folder, "try": paths})
            is_there = self._receive(seconds)["there"]
            problems = [(path, self._receive(seconds)["problem"]) for path in paths]
        except (_Died, _Hangs) as error:
            raise _silent(folder) from error
        return Looked(is_there, [OSError(*problem, path) if problem else None for path, problem in problems])

    def _send(self, request: dict[str, Any]) -> None:
        child = self._child or self._start()
        with suppress(BrokenPipeError):  # its death shows when we read
            cast("IO[bytes]", child.stdin).write(json.dumps(request).encode() + b"\n")

    def _receive(self, most_seconds: float = 0.0) -> dict[str, Any]:
        """Return the next answer. Raises _Died, _Hangs, and what ``tell`` raises."""
        began = time.monotonic()
        while b"\n" not in self._received:
            self._tell_now_and_then(time.monotonic() - began)
            if time.monotonic() - began > (most_seconds or HANG_SECONDS):
                self._end()
                raise _Hangs
            self._received += self._read()
        self._tell_now_and_then(0.0)
        line, _, self._received = self._received.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _read(self) -> bytes:
        """Return what has come within a second, perhaps nothing. Raises _Died."""
        child = cast("subprocess.Popen[bytes]", self._child)
        answers = cast("IO[bytes]", child.stdout).fileno()
        poll = select.poll()
        poll.register(answers, select.POLLIN)
        if not poll.poll(LOOK_SECONDS * 1000):
            return b""
        if received := os.read(answers, 65_536):
            return received
        self._end()
        raise _Died(f"what read it ended with {child.returncode}")

    def _tell_now_and_then(self, waited: float) -> None:
        if time.monotonic() - self._told < LOOK_SECONDS:
            return
        self._told = time.monotonic()
        waits = f"; waiting for {self._waits_for} since {waited:.0f} s" if waited >= QUIET_SECONDS else ""
        self._tell(self.doing + waits)

    def _start(self) -> subprocess.Popen[bytes]:
        _unkillable[:] = [(root, child) for root, child in _unkillable if child.poll() is None]
        if len(_unkillable) >= MOST_UNKILLABLE or any(root == self.root for root, _ in _unkillable):
            raise _silent(str(self.root))
        self._received = b""
        self._child = subprocess.Popen(
            [*COMMAND, str(MOST_BYTES), str(os.getpid())],
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # one that hangs would keep open what somebody reads our messages from
            bufsize=0,
        )
        return self._child

    def _end(self) -> None:
        """Kill the process; one that hangs in the kernel is left there."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for pipe in (child.stdin, child.stdout):
            cast("IO[bytes]", pipe).close()
        try:
            child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            _unkillable.append((self.root, child))


def look_at(folder: Path, paths: Sequence[str], seconds: float) -> Looked:
    """As ``Reader.look_at``, once: a thread of ours that hung on a blocked share would keep us from ending."""
    with Reader(folder, tell_nobody) as reader:
        return reader.look_at(str(folder), paths, seconds)


def _unreadable(path: str, reason: str) -> LibraryUnavailable:
    return LibraryUnavailable(f"The music folder {path} (NAVIDROME_MUSIC_ROOT) cannot be read: {reason}.")


def _silent(path: str) -> LibraryUnavailable:
    return LibraryUnavailable(f"the music folder {path} does not answer")
