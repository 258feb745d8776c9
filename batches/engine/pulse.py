"""What goes on beside a chunk: the lease is renewed, the current track shown, and looked whether to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import close_old_connections

from batches import services
from batches.engine import hosts
from batches.engine.leases import DeviceLease
from batches.models import BatchJob, Device
from navembed_site.process import heartbeat
from navembed_site.process.stopping import stop_requested

logger = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
LOOK_SECONDS = 1.0  # how often a running chunk looks whether it should stop


class Interrupted(Exception):
    """Somebody wants the job to stop; what is finished is committed, the rest is queued again."""


class Pulse:
    """Between two frames of the embedder: look whether to stop, show the current track, renew the lease."""

    def __init__(self, job: BatchJob, lease: DeviceLease, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self.lease = lease
        self.current = ""
        self._shown = ""
        self._clock = clock
        self._look = clock() + LOOK_SECONDS
        self._renew = clock() + RENEW_SECONDS

    def beat(self) -> None:
        """Raises Interrupted when the job or the worker is to stop, LeaseLost when the device is not ours any more."""
        heartbeat.beat()
        if self._clock() < self._look:
            return
        self._look = self._clock() + LOOK_SECONDS
        try:
            self._touch()
        except DatabaseError as error:  # the work goes on without it; frames must not wait for long
            logger.warning("the database is away while a chunk runs: %s", error)
            close_old_connections()
            self._look = self._clock() + RENEW_SECONDS

    def _touch(self) -> None:
        if self._clock() >= self._renew:
            self.lease.renew()
            self._renew = self._clock() + RENEW_SECONDS
        if self.current != self._shown:
            BatchJob.objects.filter(pk=self.job.pk).update(current_track=self.current)
            self._shown = self.current
            tell_work(self.job, self.lease.device)
        require_wanted(self.job)


def tell_work(job: BatchJob, device: Device) -> None:
    """Show that the job advances, and that nothing keeps this device from it."""
    if job.status != BatchJob.Status.RUNNING:
        services.set_running(job)
    hosts.tell_problem(device, "")


def is_wanted(job: BatchJob) -> bool:
    """Whether neither the job nor this worker is to stop."""
    job.refresh_from_db(fields=["status"])
    return job.status in BatchJob.ADVANCING and not stop_requested()


def require_wanted(job: BatchJob) -> None:
    """Raise Interrupted when the job, or this worker, is to stop."""
    if not is_wanted(job):
        raise Interrupted
