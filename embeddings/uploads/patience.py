"""How long an upload waits for an embedder that is busy, starting or away."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOK_SECONDS = 0.1
PAUSE_SECONDS = 1.0


class Patience:
    """Is over when nothing has moved for so many seconds, or ``is_unwanted``: we stop, or the sender has gone."""

    def __init__(self, seconds: float, is_unwanted: Callable[[], bool] = lambda: False) -> None:
        self.seconds = seconds
        self.is_unwanted = is_unwanted
        self._until = time.monotonic() + seconds

    def renew(self) -> None:
        """Something has been done for this upload: what takes long is not what hangs."""
        self._until = time.monotonic() + self.seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._until or self.is_unwanted()

    def pause(self) -> None:
        """Sleep before another try."""
        until = time.monotonic() + PAUSE_SECONDS
        while time.monotonic() < until and not self.is_over:
            time.sleep(LOOK_SECONDS)
