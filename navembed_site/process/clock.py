"""What to do when the clock is set back: what was to come in a minute still comes in a minute."""

from __future__ import annotations

import time
from datetime import timedelta

from django.db.models import F
from django.utils import timezone

LEAST = timedelta(seconds=2)  # less does not matter


class Clock:
    """Compares the clock with one that nobody can set."""

    def __init__(self) -> None:
        self._ahead = _ahead()

    def set_back(self) -> timedelta:
        """Return by how much the clock was set back since the last call, or the start; zero when it was not."""
        ahead = _ahead()
        if timedelta() <= self._ahead - ahead < LEAST:
            return timedelta()  # what is little may add up
        before, self._ahead = self._ahead, ahead
        return max(timedelta(), before - ahead)


def move_back(cluster: str, by: timedelta) -> None:
    """Moves the messages and schedules of a cluster, which Django-Q keeps with their moments, that much earlier."""
    from django_q.models import OrmQ, Schedule

    OrmQ.objects.filter(key=cluster).update(lock=F("lock") - by)
    Schedule.objects.filter(cluster=cluster).update(next_run=F("next_run") - by)


def _ahead() -> timedelta:
    return timedelta(seconds=timezone.now().timestamp() - time.monotonic())
