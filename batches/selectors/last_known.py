"""The reply of ``GET /batch/progress``, also while the database is away: the panel gives up when a poll fails."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

from django.db import Error as DatabaseError

from batches import services
from batches.models import BatchJob
from batches.selectors.progress import contract_progress
from navembed_site.database.health import watch
from navembed_site.database.time_limit import time_limit
from navembed_site.database.trouble import Trouble, trouble_of

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 3.0
FRESH_SECONDS = 0.1
"""How old an answer may be. Panels ask each second; of many that ask at once, one reads the database for all."""
WRITE_SECONDS = 1.0
NO_JOB = {"status": "no_job"}


class LastKnown:
    """Remembers the last reply, in memory and for other and later processes in the file ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._answer: dict[str, Any] = NO_JOB
        self._stale_at = 0.0
        self._reply: dict[str, Any] = NO_JOB
        self._read_at = 0.0
        self._written: dict[str, Any] = {}
        self._written_at = 0.0
        self._away = False

    def progress(self) -> dict[str, Any]:
        """Return where the open job stands, else the newest; what was known last while the database does not answer.

        The answer is at most ``FRESH_SECONDS`` old.
        """
        with self._asking:
            if time.monotonic() >= self._stale_at:
                self._answer = self._ask()
                self._stale_at = time.monotonic() + FRESH_SECONDS
            return self._answer

    def forget(self) -> None:
        """Something has changed: the next answer is a new one."""
        self._stale_at = 0.0

    def _ask(self) -> dict[str, Any]:
        try:
            with time_limit(ANSWER_SECONDS):
                reply = contract_progress(services.open_job() or BatchJob.objects.first())
        except DatabaseError as error:
            if not self._away:
                logger.error("The database is away; answering from the last known state: %s", error)
            self._away = True
            return _with(trouble_of(error) or watch.trouble(), self._recall())
        self._away = False
        self._keep(reply)
        return _with(watch.trouble(), reply)

    def _recall(self) -> dict[str, Any]:
        """The newer of what this process has read and what is in the file."""
        try:
            if self._path.stat().st_mtime > self._read_at:
                return {**NO_JOB, **json.loads(self._path.read_text(encoding="utf-8"))}
        except (OSError, ValueError, TypeError) as error:
            logger.warning("The last known state is not in %s: %s", self._path, error)
        return self._reply

    def _keep(self, reply: dict[str, Any]) -> None:
        with self._lock:
            self._reply, self._read_at = reply, time.time()
            lasting = {name: value for name, value in reply.items() if name != "estimated_completion"}
            soon = time.monotonic() - self._written_at < WRITE_SECONDS
            if lasting == self._written or (soon and reply["status"] == self._written.get("status")):
                return
            self._written, self._written_at = lasting, time.monotonic()
            try:
                self._write(json.dumps(reply))
            except OSError as error:
                logger.warning("The last known state cannot be kept: %s", error)

    def _write(self, text: str) -> None:
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(self._path)


def _with(trouble: Trouble | None, reply: dict[str, Any]) -> dict[str, Any]:
    """Say in ``reply`` what is wrong with the database: its figures stand still, and no row could tell why."""
    if trouble is None:
        return reply
    return reply | {"current_track": f"waiting: {trouble}", "message": str(trouble), "estimated_completion": None}
