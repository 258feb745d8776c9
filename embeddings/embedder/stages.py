"""Where the time goes: seconds spent in each stage of a track's way, for an operator."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
END: Any = object()


class StageSeconds:
    """Seconds by stage and model since the start of this process. Any thread may add; several at once add up."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = defaultdict(float)
        self._lock = threading.Lock()

    def add(self, seconds: float, stage: str, model: str = "") -> None:
        with self._lock:
            self._seconds[stage, model] += seconds

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what the block takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.add(time.monotonic() - began, stage)

    def waited(self, stage: str, parts: Iterator[T]) -> Iterator[T]:
        """Yield ``parts``; add what each takes to come."""
        while True:
            with self.timed(stage):
                part = next(parts, END)
            if part is END:
                return
            yield part

    def of(self, stage: str) -> float:
        """Return what a stage has taken, of all models."""
        with self._lock:
            return sum(seconds for (name, _), seconds in self._seconds.items() if name == stage)

    def report(self) -> list[dict[str, Any]]:
        """Return what JSON takes."""
        with self._lock:
            found = sorted(self._seconds.items())
        return [{"stage": stage, "model": model, "seconds": seconds} for (stage, model), seconds in found]
