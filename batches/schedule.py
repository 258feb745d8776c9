"""Jobs that start by themselves: each day at a time, or when Navidrome has finished a scan.

Nothing is stored for it. What is due is judged by the newest job that the schedule started, so it survives
restarts, and a machine that was off catches up.
"""

from __future__ import annotations

import logging
from datetime import datetime, time, timedelta
from typing import Literal

from django.conf import settings
from django.utils import timezone

from batches import services
from batches.events import Who
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.embedder.available_weights import problems_with
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library

logger = logging.getLogger(__name__)

STARTED_BY = "schedule"
WHO = Who(via="schedule")
AHEAD = timedelta(minutes=1)  # that a job may be when ``now`` is a while ago, or another machine has made it
OUTSIDE = "outside of the quiet hours"  # a pause with another reason, or none, is a human's
Status = BatchJob.Status


def run(now: datetime | None = None) -> str:
    """Start, pause or resume the scheduled job as the settings say; call it each minute. Returns what it did."""
    now = timezone.localtime(now)
    may_work = settings.QUIET_HOURS is None or _is_within(settings.QUIET_HOURS, now.time())
    try:
        if services.open_job():
            return _steer(may_work)
        if may_work and _is_due(now) and (models := _models_here()):
            return f"started job {services.start_job(JobRequest(models), started_by=STARTED_BY, via=WHO.via).pk}"
    except services.JobConflict as conflict:
        logger.warning("the schedule could not do what was due: %s", conflict)
        return str(conflict)
    except LibraryUnavailable as error:
        logger.warning("the schedule cannot tell whether Navidrome has finished a scan: %s", error)
    return "nothing to do"


def _steer(may_work: bool) -> str:
    """Pause what the schedule started at the end of the quiet hours, and resume it at their next beginning."""
    for job in BatchJob.objects.filter(started_by=STARTED_BY, status__in=BatchJob.OPEN):
        if may_work and job.status == Status.PAUSED and job.message == OUTSIDE:
            services.resume_job(job, who=WHO)
            return f"resumed job {job.pk}"
        if not may_work and job.status in BatchJob.ADVANCING:
            services.pause_job(job, reason=OUTSIDE, who=WHO)
            return f"paused job {job.pk}"
    return "a job is unfinished"


def _is_within(hours: tuple[time, time], now: time) -> bool:
    begin, end = hours
    return begin <= now < end if begin < end else now >= begin or now < end


def _is_due(now: datetime) -> bool:
    """Whether the schedule has not started a job since the last time that it should have.

    A job from the future, before the clock was set back, says nothing of that; nor does a scan that ended there.
    """
    due = _last_due(settings.SCHEDULE, now)
    newest = BatchJob.objects.filter(started_by=STARTED_BY).order_by("pk").last()
    if due is None or due > now:
        return False
    return newest is None or newest.created_at < due or newest.created_at > now + AHEAD


def _last_due(schedule: Literal["off", "scan"] | time, now: datetime) -> datetime | None:
    if schedule == "off":
        return None
    if schedule == "scan":
        return open_library().last_scan()
    today = datetime.combine(now.date(), schedule, now.tzinfo)
    # In one time zone Python compares clocks, which repeat an hour in autumn.
    return today if today.timestamp() <= now.timestamp() else today - timedelta(days=1)


def next_at(now: datetime | None = None) -> datetime | None:
    """Return when the schedule starts its next job; None without one, or when that is after a scan."""
    if not isinstance(settings.SCHEDULE, time):
        return None
    now = timezone.localtime(now)
    day = now.date() if now.time() < settings.SCHEDULE else now.date() + timedelta(days=1)
    return datetime.combine(day, settings.SCHEDULE, now.tzinfo)


def _models_here() -> list[str]:
    """Return the models whose weights can be had: what is left out each night would make each job end with errors."""
    problems = problems_with(MODEL_KEYS)
    for model, problem in problems.items():
        logger.info("the schedule leaves %s out: %s", model, problem)
    found = [model for model in MODEL_KEYS if model not in problems]
    if not found:
        logger.warning("the schedule cannot start a job: no model's weights are on this machine")
    return found
