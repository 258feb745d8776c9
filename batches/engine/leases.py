"""A lane is a device's place in the work. Messages only wake it up; the database holds the truth.

A message carries (device, seq). Whoever moves ``seq`` on owns the lane, and every transaction that writes results
is fenced by that number: a holder that was declared dead cannot write any more. So a message that comes twice, late
or never does no harm; the watchdog sends a new one when a lease has run out.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from batches.models import BatchJob, Lane
from navembed_site.process import heartbeat

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=45)
MOST_AHEAD = 2 * LEASE  # the clocks of two machines may differ; beyond this one was set back


class LaneLost(Exception):
    """Somebody else has taken the lane over; what was computed must not be written."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a lane, as long as its ``seq`` stands."""

    lane_id: int
    device: int
    seq: int

    def renew(self) -> None:
        """Prolong the lease; inside a transaction it fences everything written there. Raises LaneLost."""
        heartbeat.beat()
        if not Lane.objects.filter(pk=self.lane_id, seq=self.seq).update(lease_until=timezone.now() + LEASE):
            raise LaneLost(f"lane {self.device} was taken over")

    def release(self) -> None:
        """Give the lane back; it sleeps, or goes on in a new task while there is work."""
        with transaction.atomic():
            Lane.objects.filter(pk=self.lane_id, seq=self.seq).update(lease_until=None)
            if _work_exists():
                _send(self.device, self.seq)


def take(device: int, seq: int) -> Lease | None:
    """Take the lane if it sleeps and ``seq`` is still its number; None means the message is stale."""
    taken = _asleep().filter(device=device, seq=seq).update(seq=F("seq") + 1, lease_until=timezone.now() + LEASE)
    return Lease(Lane.objects.get(device=device).pk, device, seq + 1) if taken else None


def wake_all() -> None:
    """Wake every lane; part of the surrounding transaction. One that is awake ignores it."""
    for device in range(len(settings.DEVICES)):
        lane, _ = Lane.objects.get_or_create(device=device)
        _send(lane.device, lane.seq)


def watch() -> int:
    """Wake sleeping lanes while there is work; returns how many."""
    if not _work_exists():
        return 0
    asleep = list(_asleep().filter(device__lt=len(settings.DEVICES)))
    for lane in asleep:
        logger.warning("lane %d has no holder; waking it", lane.device)
        _send(lane.device, lane.seq)
    return len(asleep)


def recover() -> None:
    """Free all lanes and wake them. The jobs' worker calls this at its start: it holds the lock, nobody else works."""
    Lane.objects.update(seq=F("seq") + 1, lease_until=None)
    watch()


def _work_exists() -> bool:
    return BatchJob.objects.filter(status__in=BatchJob.ACTIVE).exists()


def _asleep() -> QuerySet[Lane]:
    """Lanes without a lease, or whose lease has run out; also one that no clock but a wrong one could have given."""
    now = timezone.now()
    has_run_out = Q(lease_until__lt=now) | Q(lease_until__gt=now + MOST_AHEAD)
    return Lane.objects.filter(Q(lease_until=None) | has_run_out)


def _send(device: int, seq: int) -> None:
    async_task("batches.tasks.run_lane", device, seq, cluster="jobs", task_name=f"lane {device} at {seq}")
