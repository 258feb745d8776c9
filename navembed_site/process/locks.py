"""Locks by name: each tells that a process of this instance lives, and leads to that process.

The kernel frees a lock with the last process that has its file open. It also knows who these are, whatever has become
of the file: a cleaner that deletes it hides nobody.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from django.conf import settings

logger = logging.getLogger(__name__)

PROC = Path("/proc")
DELETED = " (deleted)"  # how the kernel marks the name of an open file that has none any more
LOOK_SECONDS = 0.2


class Lock:
    """A held lock. Forked children share it: it is free when the last of them has ended."""

    def __init__(self, name: str, descriptor: int) -> None:
        self.name = name
        self._descriptor: int | None = descriptor

    def fileno(self) -> int:
        return -1 if self._descriptor is None else self._descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def hold(name: str, *, wait: bool = True) -> Lock:
    """Take the lock ``name`` until it is released or the process ends; wait while another has it.

    Raises BlockingIOError instead of waiting when ``wait`` is false.
    """
    path = _path(name)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(name, descriptor, wait)
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return Lock(name, descriptor)


def _take(name: str, descriptor: int, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise
        logger.info("%s runs already (process %s); waiting to take over.", name, holder(name) or "unknown")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    # Somebody may hold a file of this name that was deleted since.
    ours = os.fstat(descriptor).st_ino
    while any(inode != ours for _, inode in _found(name)):
        if not wait:
            raise BlockingIOError
        time.sleep(LOOK_SECONDS)


def is_held(name: str) -> bool:
    """Whether a living process holds the lock ``name``."""
    return _is_locked(_path(name)) or (PROC.exists() and bool(holders(name)))


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that two who ask at the same moment do not take each other for the holder.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(name: str) -> int | None:
    """Process id that took the lock ``name`` last, or None."""
    try:
        return int(_path(name).read_text())
    except (FileNotFoundError, ValueError):
        return None


def holders(name: str) -> set[int]:
    """Return every process that holds the lock ``name``: who took it, and children who share it.

    Outside Linux only who took it.
    """
    if not PROC.exists():
        return {pid for pid in [holder(name)] if pid and _is_locked(_path(name))}
    return {pid for pid, _ in _found(name)}


def kill_holders(name: str) -> None:
    """Kill every process that holds the lock ``name``; none that only has the number of one that did."""
    for pid in holders(name):
        with suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                os.kill(pid, signal.SIGKILL)
                continue
            process = os.pidfd_open(pid)  # from now on the number means this process
            try:
                if pid in holders(name):
                    signal.pidfd_send_signal(process, signal.SIGKILL)
            finally:
                os.close(process)


def _found(name: str) -> Iterator[tuple[int, int]]:
    """Yield who holds a lock of this name, and the inode of its file; the kernel says so in /proc (Linux)."""
    path = str(_path(name).resolve())
    for pid in filter(str.isdecimal, os.listdir(PROC)):  # noqa: PTH208  (Path takes three times as long)
        with suppress(OSError):  # it has just ended, or is somebody else's
            for number in os.listdir(f"{PROC}/{pid}/fd"):  # noqa: PTH208
                link = f"{PROC}/{pid}/fd/{number}"
                with suppress(OSError):
                    if os.readlink(link).removesuffix(DELETED) != path:  # noqa: PTH115
                        continue
                    told = Path(f"{PROC}/{pid}/fdinfo/{number}").read_text()
                    if "FLOCK" in told:  # who waits for it has it open, too
                        yield int(pid), Path(link).stat().st_ino


def _path(name: str) -> Path:
    """In NAVEMBED_HOME, and not in PID_DIR: folders below /run and /tmp are cleaned up by others."""
    return Path(settings.NAVEMBED_HOME) / "locks" / f"{name}.lock"
