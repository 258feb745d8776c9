"""Follows a job on a terminal, or in plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from batches import services
from batches.models import BatchJob
from batches.progress import Snapshot, snapshot

POLL_SECONDS = 0.5
LINE_SECONDS = 10.0
WATCH_SECONDS = 60.0


def follow(job: BatchJob, out: TextIO = sys.stdout) -> BatchJob:
    """Show progress until the job has ended; returns it as it then is."""
    if Console(file=out).is_terminal:
        _follow_with_bar(job, out)
    else:
        _follow_with_lines(job, out)
    return job


def _follow_with_bar(job: BatchJob, out: TextIO) -> None:
    columns = (
        TextColumn("{task.fields[state]:>12}"), BarColumn(None), TextColumn("{task.percentage:5.1f} %"),
        TextColumn("{task.fields[detail]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(file=out)) as bar:
        task = bar.add_task("", total=100, state=job.status, detail="")
        for now in _looks(job):
            bar.update(task, completed=now.percent, state=job.status, detail=_detail(job, now), refresh=True)


def _follow_with_lines(job: BatchJob, out: TextIO) -> None:
    shown = ("", 0.0)
    for now in _looks(job):
        if job.status != shown[0] or time.monotonic() - shown[1] >= LINE_SECONDS:
            out.write(f"{job.status}: {now.percent:.1f} % {_detail(job, now)}\n")
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


def _detail(job: BatchJob, now: Snapshot) -> str:
    parts = [f"{job.processed_tracks + job.failed_tracks}/{job.total_tracks} tracks"]
    if job.failed_tracks:
        parts.append(f"{job.failed_tracks} failed")
    if job.is_open and now.speed:
        parts.append(f"{now.speed:.1f} × real time")
    if job.is_open and now.seconds_left:
        parts.append(f"about {timedelta(seconds=round(now.seconds_left))} left")
    if job.message or job.current_track:
        parts.append(job.message or job.current_track)
    return ", ".join(parts)
