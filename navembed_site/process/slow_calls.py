"""Waiting for what may be slow, or never answer, such as a disk or a share, without standing still oneself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

LOOK_SECONDS = 1.0

T = TypeVar("T")
RaiseIfStopped = Callable[[], None]
"""Is called about once a second, and stops what is going on by raising."""


def patiently(call: Callable[[], T], raise_if_stopped: RaiseIfStopped) -> T:
    """Return what a slow ``call``, which uses no database of ours, returns; ``raise_if_stopped`` about once a second.

    When ``raise_if_stopped`` raises, the call is left to itself.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], LOOK_SECONDS).done:
        raise_if_stopped()
    return future.result()


def within(seconds: float, late: Exception) -> Callable[[], None]:
    """Return a ``raise_if_stopped`` that raises ``late`` once so many seconds have gone by."""
    until = time.monotonic() + seconds

    def raise_if_stopped() -> None:
        if time.monotonic() > until:
            raise late

    return raise_if_stopped


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
