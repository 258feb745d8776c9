"""What takes seconds to make is made by one of the processes that test, for all of them."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

from tests.settings import RUN_HOME


def made_once(name: str, make: Callable[[Path], object]) -> Path:
    """Return the folder ``name``; the first who asks has ``make`` fill it, and nobody changes it."""
    folder = Path(RUN_HOME, name)
    with Path(RUN_HOME, f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = Path(RUN_HOME, f"{name}.new")
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder
