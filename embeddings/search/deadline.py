"""How long an answer may still take."""

from __future__ import annotations

import time

from embeddings.errors import OutOfTime
from navembed_site.process.slow_calls import RaiseIfStopped


class Deadline:
    """So many seconds from now, and no longer than ``raise_if_stopped`` allows."""

    def __init__(self, seconds: float, raise_if_stopped: RaiseIfStopped = lambda: None) -> None:
        self._end = time.monotonic() + seconds
        self._raise_if_stopped = raise_if_stopped

    @property
    def left(self) -> float:
        """Seconds, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise OutOfTime when it has passed."""
        self._raise_if_stopped()
        if not self.left:
            raise OutOfTime("the answer would have come too late")
