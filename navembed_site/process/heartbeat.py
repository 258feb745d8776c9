"""How a Django-Q cluster shows that it lives, and who ends it when it does not.

Django-Q replaces a process that has died. One that is stopped, or waits for a lock whose holder was killed, it never
notices. So the main process sends the cluster a message now and then, which goes the way of every other: pusher,
queue, worker, monitor. Signs of life are counted in memory that all of them share.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import MutableSequence
from enum import IntEnum
from multiprocessing.process import BaseProcess
from typing import Any

from django.db import Error as DatabaseError
from django.db import close_old_connections

from navembed_site.process.clock import Clock, move_back
from navembed_site.process.patience import Presence

logger = logging.getLogger(__name__)

BEAT_SECONDS = 60.0  # a busy machine may take half a minute over a message, and so may a locked database
LOOKS = 4  # without a sign of life; counted rather than timed, so that a suspended machine is no dead one
TASK_SECONDS = 600.0  # a task that does not call `beat` itself counts as alive this long
NAME = "heartbeat"
TASK = "navembed_site.process.heartbeat.beat"


class Sign(IntEnum):
    """Who shows a sign of life."""

    TASK = 0  # a worker took a message, or is at work on one
    GUARD = 1  # Django-Q's guard, which runs the schedules


_counts: MutableSequence[int] | ctypes.Array[ctypes.c_ulong] = [0] * len(Sign)
_last = 0.0
_task_ended = threading.Event()


def beat(sign: Sign = Sign.TASK) -> None:
    """Show that work goes on; costs a microsecond. Outside a cluster it does nothing."""
    global _last  # noqa: PLW0603  (the thread beside the task has no other way to see it)
    _last = time.monotonic()
    _counts[sign] += 1


def announce() -> None:
    """Share the counts with every process forked from now on, and count the tasks they run."""
    from django_q.signals import post_execute_in_worker, pre_execute

    global _counts  # noqa: PLW0603  (forked tasks have no other way to find them)
    _counts = multiprocessing.RawArray(ctypes.c_ulong, len(Sign))  # no lock that the dead could hold
    pre_execute.connect(_task_begins)
    post_execute_in_worker.connect(_task_ends)
    logging.getLogger("django-q").addFilter(_is_no_beat)


def _task_begins(**_: Any) -> None:
    """Beats in a thread beside the task: it stops with the process, but not for a long computation."""
    global _task_ended  # noqa: PLW0603
    beat()
    _task_ended = threading.Event()
    threading.Thread(target=_beat_beside, args=(_task_ended,), daemon=True).start()


def _task_ends(**_: Any) -> None:
    _task_ended.set()


def _beat_beside(ended: threading.Event) -> None:
    presence = Presence()
    while not ended.wait(1) and min(time.monotonic() - _last, presence.seconds()) < TASK_SECONDS:
        _counts[Sign.TASK] += 1


def _is_no_beat(record: logging.LogRecord) -> bool:
    return record.levelno > logging.INFO or (record.threadName != NAME and NAME not in record.getMessage())


class Watch(threading.Thread):
    """Asks ``cluster`` for signs of life; when none come for ``seconds``, ends ``guard`` and this process.

    The kernel ends the guard's children with it, also stopped ones.
    """

    def __init__(self, cluster: str, guard: BaseProcess, seconds: float = BEAT_SECONDS) -> None:
        super().__init__(name=NAME, daemon=True)
        self._cluster = cluster
        self._guard = guard
        self._pause = seconds / LOOKS
        self._seen: list[int] = []
        self._missed = 0
        self._stopping = threading.Event()
        self._clock = Clock()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.wait(self._pause):
            try:
                close_old_connections()
                self._mind_clock()
                self._look()
                self._ask()
            except DatabaseError as error:
                logger.warning("No sign of life can be asked for: %s", error)
                self._missed = 0  # without the database nobody can answer

    def _mind_clock(self) -> None:
        if by := self._clock.set_back():
            seconds = by.total_seconds()
            logger.warning("The clock was set back by %.0f s; the cluster %s follows it.", seconds, self._cluster)
            move_back(self._cluster, by)

    def _look(self) -> None:
        counts = list(_counts)
        everybody = all(now != before for now, before in zip(counts, self._seen, strict=False))
        self._seen = counts
        self._missed = 0 if everybody else self._missed + 1
        if self._missed >= LOOKS and not self._stopping.is_set():
            logger.critical("The cluster %s shows no sign of life; it is ended, to be started again.", self._cluster)
            self._guard.kill()
            os._exit(1)

    def _ask(self) -> None:
        """Send a message, unless the last one still lies there: the cluster may be busy for hours."""
        from django_q.tasks import async_task

        if not _messages(self._cluster):
            async_task(TASK, cluster=self._cluster, task_name=NAME, save=False)


def forget(cluster: str) -> None:
    """Delete messages of earlier processes; one that was taken and not answered never will be."""
    for message in _messages(cluster):
        message.delete()


def _messages(cluster: str) -> list[Any]:
    from django_q.models import OrmQ

    return [message for message in OrmQ.objects.filter(key=cluster) if message.name() == NAME]
