"""How long an answer may still take."""

from __future__ import annotations

import time

from embeddings.errors import OutOfTime


class Deadline:
    """So many seconds from now."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def check(self) -> None:
        """Raise OutOfTime when it has passed."""
        if not self.left:
            raise OutOfTime("the answer would have come too late")
