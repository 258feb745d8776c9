"""How fast a job was in the course of its time: vectors per minute, or per hour when it takes days."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from django.db.models import Count, TextField
from django.db.models.functions import Cast, Substr
from django.utils import timezone

from batches.models import BatchJob, TrackResult
from navembed_site.console.words import DAY, HOUR, MINUTE
from navembed_site.http.remembered import Remembered

BARS = 60
STEPS = (10, 30, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 6 * HOUR, DAY)  # seconds of a bar
JOBS_REMEMBERED = 16
SECONDS = 20.0  # for which figures of a job at work are remembered, at least
REST = {19: "", 18: "0", 16: ":00", 13: ":00:00"}
"""What completes the first so many characters of a moment to seconds."""


@dataclass(frozen=True)
class Chart:
    """Bars from the job's begin to its end, or to now."""

    rates: list[float]
    per: str
    begin: datetime
    end: datetime

    @property
    def most(self) -> float:
        return max(self.rates)

    @property
    def bars(self) -> list[tuple[float, float, float]]:
        """Place, height and rate of each, of a picture that is 100 high."""
        return [(place, 100 * rate / self.most, rate) for place, rate in enumerate(self.rates)]

    @property
    def width(self) -> int:
        return len(self.rates)


def chart(job: BatchJob) -> Chart | None:
    """Return the course of a job; None before there is one to be seen."""
    if job.started_at is None:
        return None
    end = job.finished_at or timezone.now()
    seconds = (end - job.started_at).total_seconds()
    step = next((each for each in STEPS if seconds <= BARS * each), STEPS[-1])
    found: Counter[int] = Counter()
    for at, count in _counted(job.pk, job.finished_at, _prefix(step)).latest().items():
        found[max(0, int((at - job.started_at).total_seconds() // step))] += count
    whole = int(seconds // step)  # the last one is not over
    if whole < 2 or not any(found[place] for place in range(whole)):
        return None
    unit = HOUR if step >= HOUR else MINUTE
    rates = [found[place] * unit / step for place in range(whole)]
    return Chart(rates, "hour" if unit == HOUR else "minute", job.started_at, end)


def forget() -> None:
    """Ask again the next time."""
    _counted.cache_clear()


def _prefix(step: int) -> int:
    """Return how many characters of a moment are looked at: finer than a step, so that no bar borrows of another."""
    return 19 if step < MINUTE else 18 if step == MINUTE else 16 if step <= HOUR else 13


@lru_cache(JOBS_REMEMBERED)
def _counted(job: int, _finished_at: datetime | None, prefix: int) -> Remembered[dict[datetime, int]]:
    """What costs much is asked rarely; a job that has ended anew is asked anew."""
    return Remembered(lambda: _count(job, prefix), seconds=SECONDS)


def _count(job: int, prefix: int) -> dict[datetime, int]:
    """Count a job's vectors by the unit of time in which they were made, all by the database."""
    made = TrackResult.objects.filter(job=job, status=TrackResult.Status.SUCCEEDED)
    moments = made.values_list(Substr(Cast("finished_at", TextField()), 1, prefix))
    return {
        datetime.fromisoformat(text + REST[prefix]).replace(tzinfo=UTC): count
        for text, count in moments.annotate(Count("pk")).order_by()
        if text
    }
