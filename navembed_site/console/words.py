"""Times, lengths and states in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from batches.models import BatchJob

Status = BatchJob.Status
MINUTE, HOUR, DAY = 60, 3600, 86_400


def duration(seconds: float | None) -> str:
    """Return a time that something takes, by its two largest units."""
    if seconds is None:
        return "not known yet"
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s" if whole < 10 * MINUTE else f"{round(whole / MINUTE)} min"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def length(seconds: float | None) -> str:
    """Return how long a track is."""
    if not seconds:
        return "–"
    whole = round(seconds)
    minutes = f"{whole // MINUTE % 60:02}" if whole >= HOUR else f"{whole // MINUTE}"
    return f"{whole // HOUR}:{minutes}:{whole % MINUTE:02}" if whole >= HOUR else f"{minutes}:{whole % MINUTE:02}"


def ago(moment: datetime) -> str:
    """Return when something was, as people say it; a date when that is long ago."""
    seconds = (timezone.now() - moment).total_seconds()
    local, today = timezone.localtime(moment), timezone.localtime()
    if seconds < 0:
        return f"in {duration(-seconds)}"
    if seconds < MINUTE:
        return "just now"
    if seconds < HOUR:
        return f"{round(seconds / MINUTE)} min ago"
    if local.date() == today.date():
        return f"today, {local:%H:%M}"
    if (today.date() - local.date()).days == 1:
        return f"yesterday, {local:%H:%M}"
    return f"{local:%-d %b}, {local:%H:%M}" if local.year == today.year else f"{local:%-d %b %Y}"


def ignored_text(count: int) -> str:
    """Return what became of files that somebody acknowledged."""
    return f"{count:,} {'file is ignored until it changes' if count == 1 else 'files are ignored until they change'}"


@dataclass(frozen=True)
class State:
    """How a job's status looks: a colour's name, a symbol, a word, and a sentence without its message."""

    tone: str
    icon: str
    label: str
    sentence: str


STATES = {
    Status.QUEUED: State("quiet", "schedule", "Queued", "Starts when the job before it has ended"),
    Status.INITIALIZED: State("busy", "hourglass_top", "Starting", "Finds out what there is to do"),
    Status.RUNNING: State("busy", "progress_activity", "Running", "Tracks are being embedded"),
    Status.WAITING: State("warn", "pending", "Waiting", "Waits, and goes on by itself"),
    Status.PAUSING: State("warn", "pause_circle", "Pausing", "Finishes the batch in hand first"),
    Status.PAUSED: State("warn", "pause_circle", "Paused", "Goes on when you resume it"),
    Status.CANCELLING: State("warn", "cancel", "Cancelling", "Finishes the batch in hand first"),
    Status.COMPLETED: State("good", "check_circle", "Completed", "Everything that it tried was embedded"),
    Status.COMPLETED_WITH_ERRORS: State("bad", "error", "Completed with errors", "Not everything could be embedded"),
    Status.CANCELLED: State("quiet", "cancel", "Cancelled", "Stopped by somebody; what it did is kept"),
    Status.FAILED: State("bad", "report", "Failed", "It could not go on"),
}
