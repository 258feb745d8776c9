"""How long a job needs to start, to resume and to tell where it is, in a large library; without any device.

A scratch instance is filled and measured in steps, each a process of its own, as after a restart.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from navembed_site.benchmarks.scratch import environment_of, python

SQLITE = "navembed.sqlite3"
FILLING = ("start", "resume")
STEPS = (*FILLING, "repeat")


@dataclass(frozen=True)
class Figure:
    """One measured thing. ``wanted`` is what it should stay below, ``at_least`` what it should reach."""

    what: str
    value: float
    unit: str
    wanted: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Extent:
    """How large the synthetic library is."""

    tracks: int
    numbers: int
    """Of a vector of MuQ; the other models' are short."""


def measure(extent: Extent, *, folder: Path | None = None, database: str = "") -> Iterator[Figure]:
    """Yield the figures as they are measured, in a temporary folder in ``folder``.

    ``database`` is the URL of an empty PostgreSQL database to use instead of SQLite; it is left filled. Raises
    StepFailed.
    """
    with tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home:
        for step in STEPS:
            _forget_pages(Path(home))
            yield from run_step(step, Path(home), extent, database)


def run_step(step: str, home: Path, extent: Extent, database: str = "") -> list[Figure]:
    """Run a step in a process that sees nothing of the user's instance."""
    library = {"NAVIDROME_DB_PATH": str(home / "navidrome.db"), "NAVEMBED_SCHEDULE": "scan"}
    environment = environment_of(home, DATABASE_URL=database, **library)
    options = ("--step", step, "--tracks", str(extent.tracks), "--numbers", str(extent.numbers))
    done = python("manage.py", "benchmark", "jobs", *options, environment=environment)
    return [Figure(**figure) for figure in json.loads(done)]


def _forget_pages(home: Path) -> None:
    """Drops SQLite's file from the page cache, as after a reboot, where the system allows it."""
    path = home / SQLITE
    if path.exists() and hasattr(os, "posix_fadvise"):
        with closing(os.fdopen(os.open(path, os.O_RDONLY))) as file:
            os.fsync(file.fileno())  # only what has been written can be forgotten
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
