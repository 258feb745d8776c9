"""Processes that stand still."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

TRIES = 2000


def freeze(pid: int) -> None:
    """Stop a process; return when all its threads stand still, which the kernel does not wait for."""
    os.kill(pid, signal.SIGSTOP)
    for _ in range(TRIES):
        if all(_state(thread) in "TtZX" for thread in Path(f"/proc/{pid}/task").iterdir()):
            return
        time.sleep(0.005)
    raise AssertionError(f"process {pid} does not stand still")


def _state(thread: Path) -> str:
    try:
        return (thread / "stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
