"""Who may use the device next: an upload or a text goes before a job's next batch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PriorityLock:
    """A lock with two ranks. A job's batch waits while anybody interactive waits."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._busy = False
        self._interactive_waiting = 0

    @contextmanager
    def job(self) -> Iterator[None]:
        """Hold the device for one batch of a job."""
        with self._condition:
            self._condition.wait_for(lambda: not self._busy and not self._interactive_waiting)
            self._busy = True
        yield from self._held()

    @contextmanager
    def interactive(self) -> Iterator[None]:
        """Hold the device for one batch that somebody waits for."""
        with self._condition:
            self._interactive_waiting += 1
            self._condition.wait_for(lambda: not self._busy)
            self._interactive_waiting -= 1
            self._busy = True
        yield from self._held()

    def _held(self) -> Iterator[None]:
        try:
            yield
        finally:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
