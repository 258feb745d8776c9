"""A job in words: what it does now, a list of jobs, one job in full, why its tracks have failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby, islice
from operator import attrgetter

from django.db.models import Q, QuerySet
from django.utils import timezone

from batches.events import text_of
from batches.models import BatchJob, TrackResult
from batches.requests import JobRequest
from batches.selectors.progress import snapshot
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.process.locks import is_held
from navembed_site.terminal import console, plain, table

Status = BatchJob.Status
STATES = {
    Status.QUEUED: "is queued behind another job",
    Status.INITIALIZED: "is active and about to go on",
    Status.RUNNING: "is running",
    Status.WAITING: "waits, and goes on by itself",
    Status.PAUSING: "pauses after the device batch in hand",
    Status.PAUSED: "is paused",
    Status.CANCELLING: "is cancelled after the device batch in hand",
    Status.COMPLETED: "is completed",
    Status.COMPLETED_WITH_ERRORS: "is completed, with errors",
    Status.CANCELLED: "is cancelled",
    Status.FAILED: "has failed",
}
FAILURES_SHOWN = 50
EVENTS_SHOWN = 20


def state_text(job: BatchJob) -> str:
    """Return a sentence that says where the job stands, whatever was asked of it."""
    why = f": {plain(job.message).rstrip('.')}" if job.message else ""
    idle = job.status in BatchJob.ACTIVE and not has_worker()
    more = " No worker runs on this machine; `serve` and `embed_library` start one." if idle else ""
    return f"{job} {STATES[Status(job.status)]}{why}.{more}"


def has_worker() -> bool:
    """Whether somebody on this machine works on jobs."""
    return is_held("worker")


def print_jobs(jobs: Sequence[BatchJob]) -> None:
    """Print one line for each job, and what those say that have something to say."""
    shown = table("job", "models", "state", "%", "tracks", "failed", "made", numbers=("job", "%", "tracks", "failed"))
    for job in jobs:
        models = "all" if job.model_keys == list(MODEL_KEYS) else " ".join(job.model_keys)
        state = "with errors" if job.status == Status.COMPLETED_WITH_ERRORS else job.status
        tracks = f"{job.processed_tracks + job.failed_tracks}/{job.total_tracks}"
        percent = f"{snapshot(job).percent:.1f}"
        shown.add_row(str(job.pk), models, state, percent, tracks, str(job.failed_tracks), _moment(job.created_at))
    console().print(shown)
    for job in jobs:
        if job.message:
            console().print(f"job {job.pk}: {plain(job.message)}", soft_wrap=True)


def print_job(job: BatchJob) -> None:
    """Print all that there is to say of one job."""
    now = snapshot(job)
    by = f" by {job.started_by}" if job.started_by else ""
    began = f", began {_moment(job.started_at)}" if job.started_at else ""
    ended = f", ended {_moment(job.finished_at)}" if job.finished_at else ""
    done = f"{job.processed_tracks} of {job.total_tracks} tracks done, {job.failed_tracks} failed"
    for line in (
        state_text(job),
        f"Asked for{by}: {JobRequest.of(job)}.",
        f"Made {_moment(job.created_at)}{began}{ended}.",
        f"{now.percent:.1f} %: {done}.",
    ):
        console().print(plain(line), soft_wrap=True)
    numbers = ("to do", "done", "failed", "× real time")
    shown = table("model", *numbers, "without work", numbers=numbers)
    for row in job.progress.all():
        rate = f"{row.rate:,.1f}" if row.rate else ""
        skipped = ", ".join(f"{number} {reason}" for reason, number in row.skipped.items())
        shown.add_row(row.model, str(row.total), str(row.succeeded), str(row.failed), rate, skipped)
    console().print(shown)
    for event in job.events.order_by("-pk")[:EVENTS_SHOWN][::-1]:
        console().print(plain(f"{_moment(event.at)} {text_of(event)}"), soft_wrap=True)
    if now.failed_operations:
        console().print(f"`manage.py job show {job.pk} --failed` says why tracks have failed.")
    if noted := len(set(notes(job).order_by().values_list("track", flat=True))):
        says = f"`manage.py job show {job.pk} --notes` says what."
        console().print(f"Of {noted} embedded tracks not everything was heard as it is; {says}", soft_wrap=True)


def failures(job: BatchJob) -> QuerySet[TrackResult]:
    """Return what has failed, track by track."""
    failed = TrackResult.objects.filter(job=job, status=TrackResult.Status.FAILED).select_related("track")
    return failed.order_by("track__path", "track", "error_message", "pk")


def notes(job: BatchJob) -> QuerySet[TrackResult]:
    """Return what was embedded, but not as it is, track by track."""
    noted = TrackResult.objects.filter(~Q(note=""), job=job).select_related("track")
    return noted.order_by("track__path", "track", "note", "pk")


def print_failures(job: BatchJob, limit: int) -> None:
    """Print which tracks have failed, at most so many, with which models, and why."""
    _print_tracks(failures(job), "error_message", limit, f"No track of job {job.pk} has failed.")


def print_notes(job: BatchJob, limit: int) -> None:
    """Print of which tracks not everything was heard, at most so many, and what."""
    _print_tracks(notes(job), "note", limit, f"Nothing is to be said of the tracks of job {job.pk}.")


def _print_tracks(found: QuerySet[TrackResult], field: str, limit: int, otherwise: str) -> None:
    tracks = found.values("track").distinct().order_by().count()
    for track, results in islice(groupby(found.iterator(), key=lambda result: result.track), limit):
        console().print(plain(track.path), soft_wrap=True)
        for reason, some in groupby(results, key=attrgetter(field)):
            models = " ".join(result.model for result in some)
            console().print(f"  {models}: {plain(reason)}", soft_wrap=True)
    if tracks > limit:
        console().print(f"… and {tracks - limit} more tracks; --limit {tracks} shows all.")
    elif not tracks:
        console().print(otherwise)


def _moment(moment: datetime) -> str:
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M}"
