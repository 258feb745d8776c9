"""The hosts that work for this instance, and how the others know that one is there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from django.db import Error as DatabaseError
from django.db import close_old_connections
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from batches.models import Device, Host, TrackResult
from embeddings.embedder.client import EmbedderClient
from navembed_site.errors import NavembedError
from navembed_site.process.host import host_key, host_name

logger = logging.getLogger(__name__)

SIGN_SECONDS = 10.0  # between two signs of life
ABSENT = timedelta(seconds=40)  # without one; by the database's clock, since those of hosts may differ
FORGOTTEN = timedelta(days=7)
ANSWER_SECONDS = 3.0  # an embedder answers at once, or it is frozen


def queue_of(key: str) -> str:
    """Return the Django-Q queue of a host's devices: nobody else can reach their embedders."""
    return f"jobs-{key}"


def is_here(path: str = "host__") -> Q:
    """Whether a device's host is at work; our own counts as being there. ``path`` leads from the row to the host."""
    return Q(**{f"{path}seen_at__gt": Now() - ABSENT}) | Q(**{f"{path}key": host_key()})


def announce() -> Host:
    """Say that this host is there."""
    host, _ = Host.objects.update_or_create(key=host_key(), defaults={"name": host_name(), "seen_at": Now()})
    return host


def at_work() -> QuerySet[Device]:
    """Return the devices that take part in a job: nothing keeps them from it."""
    return Device.objects.filter(is_here(), problem="")


def another_works(device: Device) -> bool:
    """Whether some other device goes on with the job, so that what stops this one does not hold the job up."""
    return at_work().exclude(pk=device.pk).exists()


def tell_problem(device: Device, problem: str) -> None:
    """Show what keeps a device from working; with an empty text that nothing does."""
    if problem != device.problem:
        Device.objects.filter(pk=device.pk).update(problem=problem)
        device.problem = problem


def forget_absent() -> int:
    """Delete hosts that have not been seen for a week; returns how many."""
    working = TrackResult.objects.filter(status=TrackResult.Status.RUNNING)
    absent = Host.objects.filter(seen_at__lt=Now() - FORGOTTEN).exclude(devices__in=working.values("device"))
    return absent.delete()[1].get("batches.Host", 0)


class Presence(threading.Thread):
    """Says in the database that this host is there and what its devices hold, until it is stopped."""

    def __init__(self) -> None:
        super().__init__(name="presence", daemon=True)
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(SIGN_SECONDS):
            try:
                close_old_connections()
                announce()
                for device in Device.objects.filter(host_id=host_key()):
                    _describe(device)
                    announce()  # one that is frozen takes seconds
            except DatabaseError:
                pass  # it is away; those who work say so
            except Exception:
                logger.exception("this host could not tell what its devices hold")

    def stop(self) -> None:
        """Say that this host works no more."""
        self._stopping.set()
        with suppress(DatabaseError):
            Host.objects.filter(pk=host_key()).update(seen_at=Now() - ABSENT)


def _describe(device: Device) -> None:
    try:
        status = EmbedderClient(device.index, timeout=ANSWER_SECONDS).status()
    except NavembedError:
        kind, loaded = device.kind, []
    else:
        kind, loaded = status["device"], sorted(_loaded(status))
    if (kind, loaded) != (device.kind, device.loaded):
        Device.objects.filter(pk=device.pk).update(kind=kind, loaded=loaded)


def _loaded(status: dict[str, list[dict[str, object]]]) -> Iterator[str]:
    return (str(model["key"]) for model in status["models"] if model["loaded"])
