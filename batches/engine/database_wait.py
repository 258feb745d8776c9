"""What a device does while the database is locked, full, damaged or away: no row can say so, the log and a note do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from django.db import Error as DatabaseError
from django.db import close_old_connections

from navembed_site.database import health
from navembed_site.process import heartbeat
from navembed_site.process.stopping import stop_requested

logger = logging.getLogger(__name__)

MAX_PAUSE_SECONDS = 10.0


class DatabaseWait:
    """Growing pauses until the database is back."""

    def __init__(self) -> None:
        self._pause = 1.0
        self._noted = False

    def retry(self, write: Callable[[], None]) -> None:
        """Write what has cost device time, also when the database is away for a while. Raises LeaseLost."""
        while True:
            try:
                write()
                return self.is_over()
            except DatabaseError as error:
                self.sleep(error)
                if stop_requested():
                    raise

    def sleep(self, error: DatabaseError) -> None:
        """Tell of the error, and pause."""
        logger.warning("the database is away, trying again in %.0f s: %s", self._pause, error)
        health.note(error)
        self._noted = True
        heartbeat.beat()
        close_old_connections()
        time.sleep(self._pause)
        self._pause = min(MAX_PAUSE_SECONDS, self._pause * 2)

    def is_over(self) -> None:
        """Tell that the database has answered."""
        self._pause = 1.0
        if self._noted:
            health.forget()
            self._noted = False
