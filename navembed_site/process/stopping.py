"""How a running task hears that its worker is to stop."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Event

_stopping: Event | None = None


def announce_stops() -> Event:
    """Return an event that makes ``stop_requested`` true here and in every process forked later."""
    global _stopping  # noqa: PLW0603  (forked tasks have no other way to find it)
    _stopping = multiprocessing.Event()
    return _stopping


def stop_requested() -> bool:
    """Whether the worker that runs this task was asked to stop: end soon, at a point that loses nothing."""
    return _stopping is not None and _stopping.is_set()
