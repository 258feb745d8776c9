"""Asks for progress each second, as the panel does, and remembers what no panel should see."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from typing import Any

import psycopg

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
        """How many vectors search had at its worst since somebody has set this."""
        self.may_fall = False
        """Whether files may have changed under a build: then there is more to do again."""
        self._last: dict[str, Any] = {}
        self._setbacks = 0
        self._machine = machine
        self._ended = threading.Event()
        self._outages = 0
        self._began = time.monotonic()

    def run(self) -> None:
        while not self._ended.wait(1.0):
            with suppress(sqlite3.Error, psycopg.Error):  # the disk may be full
                self.fewest_live = min(self.fewest_live, sum(self._machine.vectors("live").values()))
            outages, setbacks, began = self._outages, self._setbacks, time.monotonic()
            try:
                status, reply = self._ask()
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
                self._compare(reply, setbacks)

    def _ask(self) -> tuple[int, Any]:
        """A reply that breaks off is asked for again, as Go's HTTP client does; a server that is away is not."""
        with suppress(ConnectionResetError):  # also http.client.RemoteDisconnected
            return self._machine.call("/batch/progress")
        return self._machine.call("/batch/progress")

    @contextmanager
    def setback(self) -> Iterator[None]:
        """Somebody gives the job more to do."""
        self._setbacks += 1
        try:
            yield
        finally:
            self._setbacks += 1

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Everything is down on purpose."""
        self._outages += 1
        try:
            yield
        finally:  # also of a fault that is missed
            self._outages += 1

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _compare(self, reply: dict[str, Any], setbacks: int) -> None:
        before, self._last = self._last, {"job_id": None, "progress_percent": 0.0, **reply, "setbacks": setbacks}
        if not before:
            return
        if self._last["job_id"] != before["job_id"]:
            if (self._last["job_id"] or 0) < (before["job_id"] or 0):
                self.backwards.append(f"job {before['job_id']} became {self._last['job_id']}")
            return
        may_fall = self.may_fall or setbacks % 2 or not before["setbacks"] == setbacks == self._setbacks
        if not may_fall and self._last["progress_percent"] < before["progress_percent"] - NOISE:
            self.backwards.append(f"{before['progress_percent']} % became {self._last['progress_percent']} %")
