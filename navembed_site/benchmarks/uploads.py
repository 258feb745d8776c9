"""How long an upload takes to be answered, alone and while a batch runs: in a scratch instance, with tiny models."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from navembed_site.benchmarks.embedding.pipeline import has_ended, stages_of
from navembed_site.benchmarks.http import END_SECONDS, RATE, Scratch, running, wait
from navembed_site.benchmarks.jobs import Figure
from navembed_site.benchmarks.scratch import StepFailed
from navembed_site.demo.encode import write_audio
from navembed_site.demo.upload import ask

SECONDS_OF_MUSIC = 60
WANTED_SECONDS = 2.0


@dataclass(frozen=True)
class Effort:
    uploads: int
    """Of each measurement, one after the other."""
    tracks: int
    """Of a minute, in the library of the batch."""


def measure(effort: Effort, *, folder: Path | None = None) -> Iterator[Figure]:
    """Yield the figures as they are measured. Raises StepFailed."""
    with (
        tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home,
        running(Path(home), effort.tracks) as scratch,
    ):
        files = _files(Path(home), 2 * effort.uploads + 1)
        _seconds(scratch, files.pop())  # the model is loaded
        before = _device_seconds(scratch)
        alone = _sent(scratch, files[effort.uploads :])
        device = _device_seconds(scratch) - before
        yield Figure("an upload alone: half of them", alone, "s")
        _batch_seconds(scratch)  # the first one makes the library, and loads the models
        undisturbed = _batch_seconds(scratch)
        beside = 0.0

        def meanwhile() -> None:
            nonlocal beside
            beside = _sent(scratch, files[: effort.uploads])
            if has_ended(scratch):
                raise StepFailed("the batch ended before all was measured; give it more --tracks")

        slowed = _batch_seconds(scratch, meanwhile) - undisturbed
        yield Figure("an upload beside a batch: half of them", beside, "s", WANTED_SECONDS)
        yield Figure("so many times as long", beside / alone, "times")
        yield Figure("a batch without uploads", undisturbed, "s")
        yield Figure("they slow it by", slowed, "s")
        yield Figure("their device time, alone", device, "s")
        yield Figure("so many times their device time", slowed / device, "times", 1.0)


def _batch_seconds(scratch: Scratch, meanwhile: Callable[[], None] = lambda: None) -> float:
    """Embed the whole library anew; returns how long it took."""
    began = time.monotonic()
    scratch.call("POST", "/batch/start", {"clearExisting": True})
    wait(lambda: scratch.call("GET", "/batch/progress")["processed_operations"])
    meanwhile()
    wait(lambda: has_ended(scratch), END_SECONDS)
    return time.monotonic() - began


def _device_seconds(scratch: Scratch) -> float:
    """Return what the device has worked since its embedder's start."""
    return sum(seconds for stage, _, seconds in stages_of(scratch) if stage == "encode")


def _sent(scratch: Scratch, files: Iterable[Path]) -> float:
    """Upload one file after the other; returns how long half of them took."""
    return statistics.median(_seconds(scratch, path) for path in files)


def _files(home: Path, count: int) -> list[Path]:
    """Write music of which no two are alike: what is known already costs nothing."""
    paths = [home / f"upload-{number}.flac" for number in range(count)]
    for number, path in enumerate(paths, 1):
        noise = np.random.default_rng(number).normal(0, 0.1, (1, SECONDS_OF_MUSIC * RATE)).astype(np.float32)
        write_audio(path, noise, RATE)
    return paths


def _seconds(scratch: Scratch, path: Path) -> float:
    """Upload a file as Navidrome's server does; returns how long the answer took."""
    began = time.monotonic()
    found = ask(scratch.environment["NAVEMBED_UPLOAD_SOCKET"], {"music_file": str(path), "name": path.name})
    if found["status"] != "ok" or "warning" in found:
        raise StepFailed(f"an upload was answered with {found}")
    return time.monotonic() - began
