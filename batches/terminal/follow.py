"""Follows a job on a terminal, or in plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TextIO

from rich.console import Group
from rich.live import Live

from batches import services
from batches.models import BatchJob
from batches.selectors.progress import Snapshot, snapshot
from navembed_site.terminal import console, plain, progress

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
WATCH_SECONDS = 60.0


def follow(job: BatchJob, out: TextIO = sys.stdout) -> BatchJob:
    """Show progress until the job has ended; returns it as it then is."""
    if out.isatty():
        _follow_with_bar(job, out)
    else:
        _follow_with_lines(job, out)
    return job


def _follow_with_bar(job: BatchJob, out: TextIO) -> None:
    with Live(console=console(out), auto_refresh=False) as picture:
        for now in _looks(job):
            picture.update(_picture(job, now), refresh=True)


def _picture(job: BatchJob, now: Snapshot) -> Group:
    state = job.status.replace("_", " ")
    return progress(state, now.percent, _time_left(now), _counts(job, now), job.message or job.current_track)


def _follow_with_lines(job: BatchJob, out: TextIO) -> None:
    shown = ("", 0.0)
    for now in _looks(job):
        if job.status != shown[0] or time.monotonic() - shown[1] >= LINE_SECONDS:
            details = (_counts(job, now), _time_left(now), plain(job.message or job.current_track))
            out.write(f"{job.status}: {now.percent:.1f} % {', '.join(filter(None, details))}\n")
            out.flush()
            shown = (job.status, time.monotonic())


def _looks(job: BatchJob) -> Iterator[Snapshot]:
    """Read ``job`` again and yield where it stands, until it has ended."""
    watched = time.monotonic()
    while True:
        job.refresh_from_db()
        yield snapshot(job)
        if not job.is_open:
            return
        time.sleep(POLL_SECONDS)
        if time.monotonic() - watched >= WATCH_SECONDS:  # without `serve` nobody else does
            watched = time.monotonic()
            services.watch()


def _counts(job: BatchJob, now: Snapshot) -> str:
    parts = [f"{job.processed_tracks + job.failed_tracks}/{job.total_tracks} tracks"]
    if job.failed_tracks:
        parts.append(f"{job.failed_tracks} failed")
    if job.is_open and now.speed:
        parts.append(f"{now.speed:.1f} × real time")
    return ", ".join(parts)


def _time_left(now: Snapshot) -> str:
    return f"about {timedelta(seconds=round(now.seconds_left))} left" if now.seconds_left else ""
