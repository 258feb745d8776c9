"""What is costly to find out is found out now and then.

Ours, because cachetools knows no age that grows with what asking took.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from django.db import connection

logger = logging.getLogger(__name__)

T = TypeVar("T")
IDLE_FACTOR = 50  # what takes a second is asked again after 50: at most 2 % of the time goes into it


class Remembered(Generic[T]):
    """What ``ask`` returned at most ``seconds`` ago; longer when it took long, up to ``longest``."""

    def __init__(self, ask: Callable[[], T], *, seconds: float = 10.0, longest: float = math.inf) -> None:
        self._ask = ask
        self._seconds = seconds
        self._longest = longest
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._found: tuple[T] | None = None
        self._until = 0.0

    def get(self) -> T:
        with self._lock:  # others wait for the answer instead of asking, too
            began = time.monotonic()
            if self._found is None or began >= self._until:
                self._found = (self._ask(),)
                ended = time.monotonic()
                self._until = ended + max(self._seconds, min(self._longest, IDLE_FACTOR * (ended - began)))
            return self._found[0]

    def latest(self) -> T:
        """Return what was found last, however old, and ask anew beside when it is due. Only the first is waited for."""
        found = self._found
        if found is None:
            return self.get()
        if time.monotonic() >= self._until and self._renewing.acquire(blocking=False):
            threading.Thread(target=self._renew, name="renewing", daemon=True).start()
        return found[0]

    def _renew(self) -> None:
        try:
            self.get()
        except Exception:
            logger.exception("The figures that pages show could not be renewed")
        finally:
            connection.close()  # the thread's own
            self._renewing.release()

    def forget(self) -> None:
        """Ask again the next time."""
        with self._lock:
            self._found = None
