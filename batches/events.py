"""What happened to a job: few rows, written in the transaction of what they tell, that its page and the API read."""

from __future__ import annotations

from typing import NamedTuple

from django.db.models import F
from django.utils import timezone

from batches.models import BatchJob, JobEvent

MOST = 200  # of one job; older ones make room, but for how it began
Kind = JobEvent.Kind


class Who(NamedTuple):
    """Who has something done, and by which way."""

    name: str = ""
    via: str = ""
    """A key of ``WAYS``."""


NOBODY = Who()
WAYS = {
    "console": "by {} in the console",
    "panel": "by {} in the panel",
    "api": "by {} over the API",
    "navidrome": "by Navidrome",
    "command": "from the command line",
    "schedule": "by the schedule",
    "": "by {}",
}
SENTENCES = {
    Kind.ASKED: "Asked for",
    Kind.STARTED: "The first track was begun",
    Kind.PAUSING: "Asked to pause",
    Kind.PAUSED: "Paused",
    Kind.RESUMED: "Resumed",
    Kind.CANCELLING: "Asked to cancel",
    Kind.RETRIED: "Failures were tried again",
    Kind.WAITING: "Waited",
    Kind.WORKER_DIED: "The worker ended in the middle of its work, and was started again",
    Kind.DEVICE_LOST: "A device is gone; the others do what it had in hand",
    Kind.EMBEDDER_DIED: "The embedder was started again",
    Kind.LEFT_OUT: "Goes on without a model",
    Kind.SWITCHED: "Search uses the new vectors",
    Kind.ENDED: "Ended",
}


def note(job: BatchJob, kind: str, detail: str = "", who: Who = NOBODY) -> None:
    """Write down that something happened; what happens again and again stays one row."""
    now = timezone.now()
    last = job.events.last()
    if last and (last.kind, last.detail, last.by, last.via) == (kind, detail, *who):
        JobEvent.objects.filter(pk=last.pk).update(times=F("times") + 1, until=now)
        return
    JobEvent.objects.create(job=job, kind=kind, detail=detail, by=who.name, via=who.via, at=now)
    rest = job.events.exclude(kind=Kind.ASKED).order_by("-pk").values_list("pk", flat=True)
    if surplus := list(rest[MOST:]):
        JobEvent.objects.filter(pk__in=surplus).delete()


def wait_is_over(job: BatchJob) -> None:
    """Write down when a wait has ended, so that its length is known."""
    last = job.events.last()
    if last and last.kind == Kind.WAITING:
        JobEvent.objects.filter(pk=last.pk).update(until=timezone.now())


def text_of(event: JobEvent) -> str:
    """Return an event as a sentence."""
    text = SENTENCES[Kind(event.kind)]
    if event.by or event.via:
        text += f" {WAYS[event.via].format(event.by or 'somebody')}"
    if event.times > 1:
        text += f", {event.times:,} times"
    return f"{text}: {event.detail.rstrip('.')}." if event.detail else f"{text}."
