"""How long a job's work takes, by where it is done, so that people see what a faster job would need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.db.models import F

from batches.models import BatchJob

PLACES = ("embedder", "decode", "device", "database", "index")  # the first one holds the next two


class Spent:
    """Seconds of one device's work, until they are written down with the job."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(PLACES, 0.0)

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Count what the block takes; also when it fails."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(place, time.monotonic() - began)

    def add(self, place: str, seconds: float) -> None:
        self._seconds[place] += seconds

    def write(self, job: BatchJob) -> None:
        """Add it to the job's figures, in which all devices come together."""
        more = {f"{place}_seconds": F(f"{place}_seconds") + seconds for place, seconds in self._seconds.items()}
        BatchJob.objects.filter(pk=job.pk).update(**more)
        self._seconds = dict.fromkeys(PLACES, 0.0)
