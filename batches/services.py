"""Every transition of a job. Views, admin, commands and tasks call these and nothing else.

Each is one conditional update on the status that it expects: count 1 means the caller owns the change, so all of
them are safe to repeat and to race.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Count, Exists, F, OuterRef, Sum
from django.utils import timezone

from batches import lanes
from batches.models import BatchJob, ModelProgress, TrackResult
from embeddings.encoders.registry import MODEL_KEYS

logger = logging.getLogger(__name__)
Status = BatchJob.Status


class JobConflict(Exception):
    """The job is not in a state that allows this; the message says which it is in."""

    def __init__(self, message: str, job: BatchJob | None = None) -> None:
        super().__init__(message)
        self.job = job


class UnknownModel(ValueError):
    """A model that is not in the registry."""


def open_job() -> BatchJob | None:
    """Return the job that is not finished yet."""
    return BatchJob.objects.filter(status__in=BatchJob.OPEN).first()


def start_job(
    models: Sequence[str] | None = None,
    *,
    clear_existing: bool = False,
    limit: int | None = None,
    library_id: int | None = None,
    path_prefix: str = "",
    started_by: str = "",
) -> BatchJob:
    """Commit a new job and wake the lanes. Raises UnknownModel; JobConflict while another job is open."""
    unknown = [model for model in models or () if model not in MODEL_KEYS]
    if unknown:
        raise UnknownModel(f"unknown model {unknown[0]!r}; known are {', '.join(MODEL_KEYS)}")
    keys = [key for key in MODEL_KEYS if not models or key in models]
    try:
        with transaction.atomic():
            job = BatchJob.objects.create(
                model_keys=keys,
                clear_existing=clear_existing,
                limit=limit,
                library_id=library_id,
                path_prefix=path_prefix,
                started_by=started_by,
            )
            ModelProgress.objects.bulk_create(ModelProgress(job=job, model=key) for key in keys)
            lanes.wake_all()
    except IntegrityError:
        other = open_job()
        name = f"job {other.pk}" if other else "another job"
        raise JobConflict(f"{name} is already running; cancel it or wait until it has ended", other) from None
    logger.info("job %d was started by %s for %s", job.pk, started_by or "somebody", ", ".join(keys))
    return job


def cancel_job(job: BatchJob) -> None:
    """Ask an open job to stop; repeated while it is cancelling, nothing happens. Raises JobConflict."""
    with transaction.atomic():
        changed = _transition(job, (Status.INITIALIZED, Status.RUNNING, Status.WAITING), Status.CANCELLING)
        if changed:
            lanes.wake_all()  # an idle lane must notice too
    if not changed and job.status != Status.CANCELLING:
        raise JobConflict(f"job {job.pk} is {job.status}; nothing is running", job)


def resume_job(job: BatchJob) -> None:
    """Let a cancelled or failed job go on where it was. Raises JobConflict."""
    _reopen(job, BatchJob.RESUMABLE)


def retry_failed(job: BatchJob) -> int:
    """Put a finished job's failed results back in line; returns how many. Raises JobConflict."""
    with transaction.atomic():
        _reopen(job, (*BatchJob.RESUMABLE, Status.COMPLETED_WITH_ERRORS))
        failed = TrackResult.objects.filter(job=job, status=TrackResult.Status.FAILED)
        counts = list(failed.values_list("model").annotate(Count("pk"), Sum("track__duration")))
        if not counts:
            raise JobConflict(f"job {job.pk} has no failed tracks", job)
        for model, number, seconds in counts:
            ModelProgress.objects.filter(job=job, model=model).update(
                failed=F("failed") - number, audio_seconds_done=F("audio_seconds_done") - seconds
            )
        # A track counts as failed when its last model is done; after a cancel some may be open.
        unfinished = TrackResult.objects.filter(job=job, track=OuterRef("track"), status__in=TrackResult.OPEN)
        tracks = failed.exclude(Exists(unfinished)).values("track").distinct().count()
        BatchJob.objects.filter(pk=job.pk).update(failed_tracks=F("failed_tracks") - tracks)
        job.refresh_from_db()
        return failed.update(status=TrackResult.Status.PENDING, attempts=0, deaths=0, not_before=None, finished_at=None)


def _reopen(job: BatchJob, expected: Sequence[str]) -> None:
    try:
        with transaction.atomic():
            changed = _transition(job, expected, Status.INITIALIZED, message="", finished_at=None)
            if changed:
                lanes.wake_all()
    except IntegrityError:
        raise JobConflict("another job is running; one runs at a time", open_job()) from None
    if not changed:
        raise JobConflict(f"job {job.pk} is {job.status}", job)


# The transitions below belong to the lane that works on the job.


def set_running(job: BatchJob) -> bool:
    """The lane has begun, or what it waited for is back."""
    started = job.started_at or timezone.now()
    return _transition(job, (Status.INITIALIZED, Status.WAITING), Status.RUNNING, message="", started_at=started)


def set_waiting(job: BatchJob, reason: str) -> bool:
    """Something outside is away. The job goes on by itself when it is back."""
    return _transition(job, (Status.INITIALIZED, Status.RUNNING, Status.WAITING), Status.WAITING, message=reason)


def set_cancelled(job: BatchJob) -> bool:
    return _finish(job, (Status.CANCELLING,), Status.CANCELLED)


def set_completed(job: BatchJob) -> bool:
    """Every result is finished; the counters tell how it ended."""
    failed = job.progress.filter(failed__gt=0).exists()
    end = Status.COMPLETED_WITH_ERRORS if failed else Status.COMPLETED
    return _finish(job, (Status.INITIALIZED, Status.RUNNING, Status.WAITING, Status.CANCELLING), end)


def set_failed(job: BatchJob, reason: str) -> bool:
    """The job cannot go on, and waiting would not help."""
    return _finish(job, BatchJob.OPEN, Status.FAILED, message=reason)


def _finish(job: BatchJob, expected: Sequence[str], status: str, message: str = "") -> bool:
    changed = _transition(job, expected, status, message=message, finished_at=timezone.now(), current_track="")
    if changed:
        logger.info("job %d has ended: %s %s", job.pk, status, message)
    return changed


def _transition(job: BatchJob, expected: Sequence[str], status: str, **fields: Any) -> bool:
    """Change the status if it is still one of ``expected``; ``job`` is read again either way."""
    changed = BatchJob.objects.filter(pk=job.pk, status__in=expected).update(status=status, **fields)
    job.refresh_from_db()
    return bool(changed)
