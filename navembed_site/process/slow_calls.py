"""Waiting for what may be slow, or never answer, such as a disk or a share, without standing still oneself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

LOOK_SECONDS = 1.0

T = TypeVar("T")


def patiently(call: Callable[[], T], look: Callable[[], None]) -> T:
    """Return what a slow ``call``, which uses no database of ours, returns; ``look`` about once a second.

    When ``look`` raises, the call is left to itself.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], LOOK_SECONDS).done:
        look()
    return future.result()


def within(seconds: float, late: Exception) -> Callable[[], None]:
    """Return a ``look`` that raises ``late`` once so many seconds have gone by."""
    until = time.monotonic() + seconds

    def look() -> None:
        if time.monotonic() > until:
            raise late

    return look


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
