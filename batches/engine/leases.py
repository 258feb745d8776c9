"""Who may work on what. Messages only wake devices up; the database holds the truth.

A message carries (device, seq). Whoever moves ``seq`` on holds the device, and every transaction that writes results
is fenced by that number: a holder that was declared dead cannot write any more. So a message that comes twice, late
or never does no harm; the watchdog sends a new one when a lease has run out. A job has a lease of its own, for what
only one device may do at a time: plan it, and complete it.

A host compares only leases of its own with its clock. Whether another host is dead is told by its leases, which it
renews: those that stay as they are for ``LOOKS`` looks, a second apart, have no holder any more (``Looks``).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from batches.engine import hosts
from batches.events import Kind, note
from batches.models import BatchJob, Device, Leased, TrackResult
from navembed_site.process import heartbeat
from navembed_site.process.host import host_key

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=45)
MOST_AHEAD = 2 * LEASE  # no clock but a wrong one could have given a lease for longer
LOOKS = 45  # a lease that nobody renews meanwhile has no holder …
LOOK_SECONDS = 1.0  # … however long we were stopped, or the database away, between two of them


class LeaseLost(Exception):
    """Somebody else works on it now; what was computed must not be written."""


@dataclass(frozen=True)
class Lease:
    """The right to work on a row, as long as its ``seq`` stands."""

    row: Leased
    seq: int

    def renew(self) -> None:
        """Prolong the lease; inside a transaction it fences everything written there. Raises LeaseLost."""
        heartbeat.beat()
        if not self._mine().update(lease_until=timezone.now() + LEASE):
            raise LeaseLost(f"{self.row} was taken over")

    def end(self) -> None:
        """Give the row back; nothing happens when somebody else has taken it."""
        self._mine().update(lease_until=None)

    def _mine(self) -> QuerySet[Leased]:
        return type(self.row)._default_manager.filter(pk=self.row.pk, seq=self.seq)


@dataclass(frozen=True)
class DeviceLease(Lease):
    """The right to work with a device of this host."""

    row: Device

    @property
    def device(self) -> Device:
        return self.row

    def release(self) -> None:
        """Give the device back; it sleeps, or goes on in a new task while there is work."""
        with transaction.atomic():
            self.end()
            if _work_exists():
                _send(self.device, self.seq)


class Looks:
    """Counts how often leases were looked at without a change: clocks of other hosts are not asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[tuple[type[Leased], int], tuple[tuple[int, datetime], int, float]] = {}

    def is_abandoned(self, row: Leased) -> bool:
        """Whether nobody holds ``row``, which was just read. Call it often: it counts one look a second."""
        if row.lease_until is None:
            return True
        key, state = (type(row), row.pk), (row.seq, row.lease_until)
        before, looks, at = self._seen.get(key, (None, 0, 0.0))
        if before != state:
            self._seen[key] = state, 0, self._clock()
            return False
        if self._clock() >= at + LOOK_SECONDS:
            looks += 1
            self._seen[key] = state, looks, self._clock()
        return looks >= LOOKS


def take(device_id: int, seq: int) -> DeviceLease | None:
    """Take the device if it sleeps and ``seq`` is still its number; None means the message is stale."""
    asleep = _asleep(Device.objects.filter(pk=device_id, seq=seq, host_id=host_key()))
    if not asleep.update(seq=F("seq") + 1, lease_until=timezone.now() + LEASE):
        return None
    return DeviceLease(Device.objects.select_related("host").get(pk=device_id), seq + 1)


def take_job(job: BatchJob, device: Device, looks: Looks) -> Lease | None:
    """Take the job, to plan or to complete it; None while another device does. ``job`` is read again."""
    job.refresh_from_db()
    if job.holder_id != device.pk and not looks.is_abandoned(job):
        return None
    mine = BatchJob.objects.filter(pk=job.pk, seq=job.seq, lease_until=job.lease_until)
    if not mine.update(seq=F("seq") + 1, lease_until=timezone.now() + LEASE, holder=device):
        return None
    job.refresh_from_db()
    return Lease(job, job.seq)


def free_abandoned(job: BatchJob, looks: Looks) -> int:
    """Queue again what devices have claimed that nobody works with any more; returns how many results."""
    claimed = TrackResult.objects.filter(job=job, status=TrackResult.Status.RUNNING)
    devices = Device.objects.filter(pk__in=claimed.values("device")).select_related("host")
    return sum(_free(job, device) for device in devices if looks.is_abandoned(device))


def _free(job: BatchJob, device: Device) -> int:
    with transaction.atomic():
        # Its former holder cannot write any more; the next one waits for the end of this transaction.
        unchanged = Device.objects.filter(pk=device.pk, seq=device.seq, lease_until=device.lease_until)
        if not unchanged.update(seq=F("seq") + 1, lease_until=None):
            return 0
        freed = requeue(TrackResult.objects.filter(job=job, device=device))
        if freed:
            note(job, Kind.DEVICE_LOST, str(device))
    if freed:
        logger.warning("%s is gone; %d results that it had claimed are queued again", device, freed)
    return freed


def requeue(claimed: QuerySet[TrackResult]) -> int:
    """Queue claimed results again, by nobody's fault; returns how many."""
    running = claimed.filter(status=TrackResult.Status.RUNNING)
    return running.update(status=TrackResult.Status.PENDING, device=None, attempts=F("attempts") - 1)


def wake_all() -> None:
    """Wake every device of the hosts that are there; part of the surrounding transaction. One awake ignores it.

    A host whose worker does not run yet wakes its own when that starts.
    """
    for device in Device.objects.filter(hosts.is_here()).order_by("pk"):
        _send(device, device.seq)


def watch() -> int:
    """Wake sleeping devices while there is work; returns how many."""
    if not _work_exists():
        return 0
    asleep = list(_asleep(Device.objects.filter(hosts.is_here())).select_related("host"))
    for device in asleep:
        logger.warning("nobody works with %s; waking it", device)
        _send(device, device.seq)
    return len(asleep)


def recover() -> None:
    """Make, free and wake the devices of this host. Its worker calls this at its start: it holds the lock."""
    host = hosts.announce()
    with transaction.atomic():
        for index in range(len(settings.DEVICES)):
            Device.objects.get_or_create(host=host, index=index)
        ours = Device.objects.filter(host=host)
        if ours.exclude(lease_until=None).exists() and (job := _active_jobs().first()):
            note(job, Kind.WORKER_DIED, host.name)
        ours.update(seq=F("seq") + 1, lease_until=None, problem="")
        removed = ours.filter(index__gte=len(settings.DEVICES))
        requeue(TrackResult.objects.filter(device__in=removed))
        removed.delete()
    watch()


def _work_exists() -> bool:
    return _active_jobs().exists()


def _active_jobs() -> QuerySet[BatchJob]:
    return BatchJob.objects.filter(status__in=BatchJob.ACTIVE)


def _asleep(devices: QuerySet[Device]) -> QuerySet[Device]:
    """Those without a lease, or whose lease has run out; also one that no clock but a wrong one could have given."""
    now = timezone.now()
    has_run_out = Q(lease_until__lt=now) | Q(lease_until__gt=now + MOST_AHEAD)
    return devices.filter(Q(lease_until=None) | has_run_out)


def _send(device: Device, seq: int) -> None:
    queue = hosts.queue_of(device.host_id)
    async_task("batches.tasks.run_device", device.pk, seq, cluster=queue, task_name=f"device {device.pk} at {seq}")
