"""Polls one after the other: each is 2 ms of Python, and threads that do such work in turns take up to twice that."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from typing import Any

from navembed_site.bodies import Application

POLLS = re.compile(r"/batch/progress|/api/v1/batches/[0-9]+")
PATIENCE_SECONDS = 0.25
"""One that waits for a database that is away must not hold up the others."""


def with_polls_in_line(application: Application) -> Application:
    """Return ``application`` behind a line for those who ask how far a job is."""
    line = threading.Lock()

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "GET" or not POLLS.fullmatch(environ["PATH_INFO"]):
            return application(environ, start_response)
        is_first = line.acquire(timeout=PATIENCE_SECONDS)
        try:
            return application(environ, start_response)
        finally:
            if is_first:
                line.release()

    return guarded
