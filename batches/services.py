"""Every transition of a job. Views, admin, commands and tasks call these and nothing else.

Each is one conditional update on the status that it expects: count 1 means the caller owns the change, so all of
them are safe to repeat and to race.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Sum, When
from django.db.models.functions import Least
from django.utils import timezone

from batches import events, webhook
from batches.engine import leases, plan
from batches.events import NOBODY, Kind, Who
from batches.models import BatchJob, ModelProgress, TrackResult
from batches.requests import EVERYTHING, JobRequest
from batches.selectors.dry_run import DiskFull, require_free_disk
from embeddings.embedder.available_weights import problems_with
from embeddings.library import require_tracks
from embeddings.spaces.lifecycle import WRITABLE

logger = logging.getLogger(__name__)
Status = BatchJob.Status


class JobConflict(Exception):
    """The job is not in a state that allows this; the message says which it is in."""

    def __init__(self, message: str, job: BatchJob | None = None) -> None:
        super().__init__(message)
        self.job = job


class KeyReused(JobConflict):
    """The caller's key stands for another job than the one that it asks for now."""


def open_job() -> BatchJob | None:
    """Return the job that is not finished yet; of several the active one."""
    queued = Case(When(status=Status.QUEUED, then=1), default=0)
    return BatchJob.objects.filter(status__in=BatchJob.OPEN).order_by(queued, "pk").first()


def active_job() -> BatchJob | None:
    """Return the active job."""
    return BatchJob.objects.filter(status__in=BatchJob.HOLDS_SLOT).first()


def start_job(
    request: JobRequest = EVERYTHING,
    *,
    started_by: str = "",
    via: str = "",
    idempotency_key: str = "",
    queue: bool = False,
) -> BatchJob:
    """Commit a new job and wake the devices; with ``queue`` it is queued behind an unfinished one.

    ``via`` says by which way it was asked for. ``start_once`` is for callers that have an ``idempotency_key``. Raises
    NoSuchTracks; JobConflict when none of the models has weights, when it would not fit on the disk, or beside an
    unfinished one without ``queue``.
    """
    _require_weights(request.models)
    require_tracks(request.library_id, request.path_prefix)
    try:
        require_free_disk(request)
    except DiskFull as error:
        raise JobConflict(str(error)) from error
    job = request.job(started_by=started_by, idempotency_key=idempotency_key)
    try:
        with transaction.atomic():
            if other := open_job():
                raise _one_at_a_time(other)
            _insert(job, via)
    except (IntegrityError, JobConflict):  # the database has the last word: another start was faster
        if not queue:
            raise _one_at_a_time(open_job()) from None
        job.status = Status.QUEUED
        with transaction.atomic():
            _insert(job, via)
            promote_next()  # the other may have ended meanwhile
        job.refresh_from_db()
    logger.info("job %d was started by %s for %s", job.pk, started_by or "somebody", ", ".join(request.models))
    return job


def start_or_join(request: JobRequest, *, started_by: str, via: str = "") -> BatchJob:
    """Commit a new job, or return the unfinished one when it does what is asked for.

    So a client that has lost sight of a job, such as a page that was reloaded, gets it back. Raises as ``start_job``.
    """
    if (job := open_job()) and _does(job, request):
        return job
    try:
        return start_job(request, started_by=started_by, via=via)
    except JobConflict as error:
        if error.job and _does(error.job, request):  # another start was faster
            return error.job
        raise


def _does(job: BatchJob, request: JobRequest) -> bool:
    """Whether ``job`` does what is asked for; it may try known bad files besides."""
    return replace(JobRequest.of(job), retry_bad_files=request.retry_bad_files) == request


def start_once(request: JobRequest, key: str, *, started_by: str, via: str = "") -> tuple[BatchJob, bool]:
    """Queue a job, unless this caller has done so with ``key``; returns it, and whether it is new.

    Keys are remembered as long as their jobs. Raises JobConflict as ``start_job``, and KeyReused.
    """
    if not key:
        return start_job(request, started_by=started_by, via=via, queue=True), True
    if earlier := BatchJob.objects.filter(started_by=started_by, idempotency_key=key).first():
        return _same(earlier, request), False
    try:
        return start_job(request, started_by=started_by, via=via, idempotency_key=key, queue=True), True
    except IntegrityError:  # the same request, sent twice at once
        earlier = BatchJob.objects.get(started_by=started_by, idempotency_key=key)
        return _same(earlier, request), False


def _same(job: BatchJob, request: JobRequest) -> BatchJob:
    """Return ``job`` if it is what is asked for now. Raises KeyReused."""
    if JobRequest.of(job) != request:
        raise KeyReused(f"this key belongs to job {job.pk}, which was asked for something else", job)
    return job


def _require_weights(models: Sequence[str]) -> None:
    """A job leaves out what cannot be loaded; one that would leave out everything is not begun."""
    problems = problems_with(models)
    if len(problems) == len(models):
        raise JobConflict(f"no job was started: {'; '.join(dict.fromkeys(problems.values()))}")


def _insert(job: BatchJob, via: str) -> None:
    job.pk = None
    job.save(force_insert=True)
    events.note(job, Kind.ASKED, str(JobRequest.of(job)), Who(job.started_by, via))
    ModelProgress.objects.bulk_create(ModelProgress(job=job, model=key) for key in job.model_keys)
    leases.wake_all()


def _one_at_a_time(other: BatchJob | None) -> JobConflict:
    name = f"job {other.pk}" if other else "another job"
    return JobConflict(f"{name} is already running; cancel it or wait until it has ended", other)


def promote_next() -> None:
    """Make the oldest queued job the active one when there is none."""
    first = BatchJob.objects.filter(status=Status.QUEUED).order_by("pk").first()
    if first is None or active_job():
        return
    try:
        with transaction.atomic():
            if _transition(first, (Status.QUEUED,), Status.INITIALIZED):
                leases.wake_all()
    except IntegrityError:
        logger.info("job %d waits on: another one was faster", first.pk)


def watch() -> int:
    """Revive what lost its wake-up: the next queued job, devices whose holder died. Returns devices woken."""
    promote_next()
    return leases.watch()


def pause_job(job: BatchJob, reason: str = "", *, who: Who = NOBODY) -> None:
    """Ask the active job to pause; again, nothing happens. Raises JobConflict.

    ``reason`` is shown as long as the pause lasts. A pause without one is a human's: it takes the place of another's.
    """
    _ask(job, BatchJob.ADVANCING, Status.PAUSING, who, reason)
    if not reason and BatchJob.objects.filter(pk=job.pk, status__in=(Status.PAUSING, Status.PAUSED)).update(message=""):
        job.message = ""
    if job.status not in (Status.PAUSING, Status.PAUSED):
        raise JobConflict(f"job {job.pk} is {job.status}; only a running job can pause", job)


def cancel_job(job: BatchJob, *, who: Who = NOBODY) -> None:
    """Ask an unfinished job to stop; repeated, nothing happens. Raises JobConflict when it has ended otherwise."""
    _ask(job, (*BatchJob.ADVANCING, Status.PAUSING), Status.CANCELLING, who)
    if job.status in (Status.QUEUED, Status.PAUSED):  # nobody works on it
        _finish(job, (Status.QUEUED, Status.PAUSED), Status.CANCELLED, who=who)
    if job.status not in (Status.CANCELLING, Status.CANCELLED):
        raise JobConflict(f"job {job.pk} is {job.status}; nothing is running", job)


def cancel_all(*, who: Who = NOBODY) -> BatchJob:
    """Cancel the active job and all that are queued behind it; returns the first. Raises JobConflict without one."""
    first = open_job()
    if first is None:
        raise JobConflict("no job is running")
    for job in BatchJob.objects.filter(status=Status.QUEUED).exclude(pk=first.pk):
        _cancel_quietly(job, who)
    cancel_job(first, who=who)
    return first


def _cancel_quietly(job: BatchJob, who: Who) -> None:
    try:
        cancel_job(job, who=who)
    except JobConflict as error:
        logger.info("%s", error)


def _ask(job: BatchJob, expected: Sequence[str], status: Status, who: Who, message: str = "") -> None:
    with transaction.atomic():
        if _transition(job, expected, status, message=message):
            events.note(job, Kind(status.value), message, who)
            leases.wake_all()  # an idle device must notice too


def resume_job(job: BatchJob, *, who: Who = NOBODY) -> None:
    """Resumes a paused, cancelled or failed job where it was; queues it behind another one if need be.

    One that goes on already stays as it is. Raises JobConflict.
    """
    if job.status in (Status.CANCELLED, Status.FAILED):
        _require_its_spaces(job)
    _reopen(job, BatchJob.RESUMABLE, Kind.RESUMED, who)


def retry_failed(job: BatchJob, *, who: Who = NOBODY) -> int:
    """Queue a finished job's failed results again; returns how many. Raises JobConflict."""
    return retry_these(job, {}, who=who)


def retry_these(job: BatchJob, which: Mapping[str, str], *, who: Who = NOBODY) -> int:
    """Queue those failed results again that have these fields, such as one ``error_message``; as ``retry_failed``."""
    _require_its_spaces(job)
    with transaction.atomic():
        if not _reopen(job, (Status.CANCELLED, Status.FAILED, Status.COMPLETED_WITH_ERRORS), Kind.RETRIED, who):
            raise JobConflict(f"job {job.pk} is {job.status}", job)
        failed = TrackResult.objects.filter(job=job, status=TrackResult.Status.FAILED, **which)
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
        return failed.update(
            status=TrackResult.Status.PENDING, attempts=0, deaths=0, chunk_limit=None, not_before=None, finished_at=None
        )


def _require_its_spaces(job: BatchJob) -> None:
    """What a job has built may have been dropped since: then its results say what is not there any more."""
    if job.planned and job.progress.filter(total__gt=0).exclude(space__status__in=WRITABLE).exists():
        raise JobConflict(f"what job {job.pk} was building is not there any more; start a new one", job)


def _reopen(job: BatchJob, expected: Sequence[str], kind: Kind, who: Who) -> bool:
    """Reopens the job, at once or queued; False when it goes on already. Raises JobConflict."""
    for status in (Status.INITIALIZED, Status.QUEUED):
        try:
            with transaction.atomic():
                changed = _transition(job, expected, status, message="", finished_at=None, plans=Least("plans", 1))
                if changed:
                    events.note(job, kind, who=who)
                    if not job.planned:  # what could not be loaded then is looked at again
                        job.progress.update(left_out="")
                    leases.wake_all()
            break
        except IntegrityError:  # another job is active
            continue
    if not changed and job.status not in (*BatchJob.ADVANCING, Status.QUEUED):
        raise JobConflict(f"job {job.pk} is {job.status}", job)
    return changed


# The transitions below belong to the devices that work on the job.


def set_planning(job: BatchJob, doing: str) -> None:
    """A device finds out what there is to do, or what it waited for is back; ``doing`` is shown meanwhile."""
    status = Status.RUNNING if job.started_at else Status.INITIALIZED
    waited = job.status == Status.WAITING
    if _transition(job, BatchJob.ADVANCING, status, message=doing) and waited:
        events.wait_is_over(job)


def set_running(job: BatchJob) -> bool:
    """A device has begun, or what it waited for is back."""
    started, is_first = job.started_at or timezone.now(), job.started_at is None
    with transaction.atomic():
        changed = _transition(job, (Status.INITIALIZED, Status.WAITING), Status.RUNNING, message="", started_at=started)
        if changed:
            events.wait_is_over(job)
            if is_first:
                events.note(job, Kind.STARTED)
    return changed


def set_waiting(job: BatchJob, reason: str, seconds: float | None = None) -> bool:
    """Something outside is away. The job goes on by itself when it is back; it looks again in so many ``seconds``."""
    next_try = timezone.now() + timedelta(seconds=seconds) if seconds else None
    is_known = (job.status, job.message) == (Status.WAITING, reason)
    with transaction.atomic():
        changed = _transition(job, BatchJob.ADVANCING, Status.WAITING, message=reason, next_try_at=next_try)
        if changed and not is_known:
            events.note(job, Kind.WAITING, reason)
    return changed


def set_paused(job: BatchJob) -> bool:
    """Every device has put down what it had in hand."""
    with transaction.atomic():
        changed = _transition(job, (Status.PAUSING,), Status.PAUSED)
        if changed:
            events.note(job, Kind.PAUSED)
    return changed


def set_cancelled(job: BatchJob) -> bool:
    return _finish(job, (Status.CANCELLING,), Status.CANCELLED)


def left_out_text(job: BatchJob) -> str:
    """Return which models the job goes on without, and how to get them later; empty when there are none."""
    rows = job.progress.exclude(left_out="")
    return " ".join(
        f"{row.model} is left out: {row.left_out}. Once that is mended, `manage.py embed_library --models {row.model}` "
        "embeds the rest."
        for row in rows
    )


def leave_out(job: BatchJob, model: str, reason: str) -> None:
    """Leaves out a model that cannot be loaded; fails the job when none is left.

    What devices have in hand of it, they may still commit; what comes back of it, the next claim takes out of the job.
    """
    with transaction.atomic():
        list(ModelProgress.objects.select_for_update().filter(job=job).order_by("pk"))  # others who count wait
        TrackResult.objects.filter(job=job, model=model, status=TrackResult.Status.PENDING).delete()
        ModelProgress.objects.filter(job=job, model=model).update(left_out=reason)
        events.note(job, Kind.LEFT_OUT, f"{model}: {reason}")
        plan.recount(job)
    logger.warning("job %d goes on without %s: %s", job.pk, model, reason)
    if not job.progress.filter(left_out="").exists():
        set_failed(job, left_out_text(job))


def set_completed(job: BatchJob, message: str = "") -> bool:
    """Every result is finished; the counters tell how it ended. ``message`` says what is left to a human."""
    is_short = job.progress.filter(Q(failed__gt=0) | ~Q(left_out="")).exists()
    end = Status.COMPLETED_WITH_ERRORS if is_short else Status.COMPLETED
    return _finish(job, BatchJob.ACTIVE, end, " ".join(filter(None, [left_out_text(job), message])))


def set_failed(job: BatchJob, reason: str) -> bool:
    """The job cannot go on, and waiting would not help."""
    return _finish(job, BatchJob.ACTIVE, Status.FAILED, reason)


def _finish(job: BatchJob, expected: Sequence[str], status: Status, message: str = "", *, who: Who = NOBODY) -> bool:
    """End the job; in the same transaction the next queued one becomes active."""
    with transaction.atomic():
        changed = _transition(job, expected, status, message=message, finished_at=timezone.now(), current_track="")
        if changed:
            how = status.label.lower()
            events.note(job, Kind.ENDED, f"{how}. {message}" if message else how, who)
            webhook.announce(job)
            promote_next()
    if changed:
        logger.info("job %d has ended: %s %s", job.pk, status, message)
    return changed


def _transition(job: BatchJob, expected: Sequence[str], status: str, **fields: Any) -> bool:
    """Change the status if it is still one of ``expected``; ``job`` is read again either way."""
    changed = BatchJob.objects.filter(pk=job.pk, status__in=expected).update(status=status, **fields)
    job.refresh_from_db()
    return bool(changed)
