"""Asks for progress each second, as the panel does, and remembers what no panel should see."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

from tests.chaos.instance import Machine

NOISE = 0.01  # of a percentage that was rounded


class Watcher(threading.Thread):
    """Polls until it is stopped. Inside ``outage`` nobody can answer, and no failure counts."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(name="watcher", daemon=True)
        self.polls = 0
        self.failed: list[str] = []
        self.backwards: list[str] = []
        self.slowest = 0.0
        self.fewest_live = 0
        """What search had at its worst since somebody has set this."""
        self.last: dict[str, Any] = {}
        self._machine = machine
        self._ended = threading.Event()
        self._outages = 0
        self._began = time.monotonic()

    def run(self) -> None:
        while not self._ended.wait(1.0):
            with suppress(sqlite3.Error):  # the disk may be full
                self.fewest_live = min(self.fewest_live, self._machine.live_vectors())
            outages, began = self._outages, time.monotonic()
            try:
                status, reply = self._machine.call("/batch/progress")
                problem = "" if status == 200 else f"status {status}: {str(reply)[:200]}"
            except (OSError, ValueError, HTTPException) as error:
                problem = f"{type(error).__name__}: {error}"
            if self._outages != outages or outages % 2:
                continue
            self.polls += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if problem:
                self.failed.append(f"{began - self._began:.0f} s: {problem}")
            else:
                self._compare(reply)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Everything is down on purpose."""
        self._outages += 1
        yield
        self._outages += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _compare(self, reply: dict[str, Any]) -> None:
        before, self.last = self.last, reply
        if reply.get("job_id") != before.get("job_id"):
            if before and (reply.get("job_id") or 0) < (before.get("job_id") or 0):
                self.backwards.append(f"job {before.get('job_id')} became {reply.get('job_id')}")
        elif reply.get("progress_percent", 0.0) < before.get("progress_percent", 0.0) - NOISE:
            self.backwards.append(f"{before['progress_percent']} % became {reply['progress_percent']} %")
