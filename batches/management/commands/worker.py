"""``manage.py worker``: the Django-Q cluster that runs jobs, or with ``--light`` the one for schedules."""

from __future__ import annotations

import logging
import os
import sys
import time
from multiprocessing.process import BaseProcess
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django_q import cluster
from django_q.conf import Conf

from batches.engine.hosts import Presence, queue_of
from navembed_site import OUR_CHECKS
from navembed_site.instance import command
from navembed_site.process import heartbeat, locks
from navembed_site.process.host import host_key
from navembed_site.process.parent import die_with_parent, tie_forks_to_parent
from navembed_site.process.stopping import announce_stops

logger = logging.getLogger(__name__)


class Sentinel(cluster.Sentinel):  # type: ignore[misc]
    """Django-Q's guard, which gives up when a child was killed instead of replacing it.

    A child that dies while it holds the queue's lock leaves the others waiting for ever, and nothing tells
    whether it held it. So the whole cluster ends, and its supervisor starts it again.
    """

    def status(self) -> str:
        """Called in each round of the guard."""
        heartbeat.beat(heartbeat.Sign.GUARD)
        return str(super().status())

    def reincarnate(self, process: BaseProcess) -> None:
        if process.exitcode is None or process.exitcode >= 0:
            super().reincarnate(process)  # recycled, timed out, or ended by itself
            return
        logger.critical("A worker process was killed by signal %d; the cluster ends.", -process.exitcode)
        for child in (*self.pool, self.monitor, self.pusher):
            child.kill()
        os._exit(1)


class Cluster(cluster.Cluster):  # type: ignore[misc]
    """Django-Q's cluster, which tells a running task that it should come to its end, and is watched."""

    def __init__(self, name: str, beat_seconds: float) -> None:
        super().__init__()
        heartbeat.announce()
        self.stopping = announce_stops()
        self._queue, self._beat_seconds = name, beat_seconds
        self._watch: heartbeat.Watch | None = None

    def start(self) -> int:
        connections.close_all()  # a forked child would end our session with PostgreSQL
        pid = int(super().start())
        self._watch = heartbeat.Watch(self._queue, self.sentinel, self._beat_seconds)
        self._watch.start()
        return pid

    def stop(self) -> bool:
        self.stopping.set()
        if self._watch:
            self._watch.stop()
        return bool(super().stop())


class Command(BaseCommand):
    help = "Runs jobs; with --light schedules and housekeeping. Started by `serve`."
    requires_system_checks = OUR_CHECKS

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--light", action="store_true", help="Run schedules, watchdog and housekeeping.")
        parser.add_argument(
            "--beat-seconds",
            type=float,
            default=heartbeat.BEAT_SECONDS,
            help="End the cluster when it has shown no sign of life for so long (default: %(default)s).",
        )

    def handle(self, *, light: bool, beat_seconds: float, **options: Any) -> None:
        cluster_name = "light" if light else queue_of(host_key())
        if cluster_name != Conf.CLUSTER_NAME:
            _become_cluster(cluster_name)
        die_with_parent()
        locks.hold("light" if light else "worker")
        tie_forks_to_parent()
        command.require_not_moved()
        _prepare(light)
        heartbeat.forget(cluster_name)
        sys.exit(_run(cluster_name, beat_seconds))


def _become_cluster(name: str) -> None:
    """Start this command again: Django-Q reads its cluster's name once, when Django is set up."""
    os.environ["Q_CLUSTER_NAME"] = name
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  (ourselves)


def _prepare(light: bool) -> None:
    from batches import tasks
    from batches.engine import leases

    if light:
        tasks.ensure_schedules()
    else:
        leases.recover()


def _run(name: str, beat_seconds: float) -> int:
    """Run the cluster until a signal stops it; return the exit status, 1 when it broke."""
    cluster.Sentinel = Sentinel  # what Cluster.start() runs
    running = Cluster(name, beat_seconds)
    running.start()
    presence = None if name == "light" else Presence()
    if presence:
        presence.start()
    while running.sentinel.is_alive():
        time.sleep(0.2)
    if presence:
        presence.stop()
    return 1 if running.sentinel.exitcode else 0
