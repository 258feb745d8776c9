"""Judging whether another is dead, without taking one's own absence for his.

A process that is stopped (SIGSTOP, a frozen container, a machine that swaps) finds its clock far ahead when it goes
on. So waiting is counted in looks, and a judgement begins anew after a gap between two of them.
"""

from __future__ import annotations

import select
import time

LOOK_SECONDS = 1.0
GAP_SECONDS = 5.0  # later than this after its time, a look shows that we were away


def is_readable(descriptor: int, seconds: float) -> bool:
    """Wait until something can be read; return whether it came within ``seconds`` in which we looked."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    left = seconds
    while True:
        began, look = time.monotonic(), max(0.0, min(LOOK_SECONDS, left))
        if poll.poll(look * 1000):
            return True
        was_away = time.monotonic() - began > look + GAP_SECONDS
        left = seconds if was_away else left - look
        if left <= 0:
            return False


class Presence:
    """How long we have been here to see what others do. Ask each second."""

    def __init__(self) -> None:
        self._asked = self._since = time.monotonic()

    def seconds(self) -> float:
        """Return the time since the beginning, or since we were last away."""
        now = time.monotonic()
        if now - self._asked > LOOK_SECONDS + GAP_SECONDS:
            self._since = now
        self._asked = now
        return now - self._since
