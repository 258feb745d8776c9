"""The Django-Q cluster of `manage.py worker`: it never hangs after a kill, and leaves no orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Callable

import pytest

from tests.processes.conftest import Instance, children

Eventually = Callable[..., None]


@pytest.fixture
def cluster(instance: Instance, eventually: Eventually) -> Instance:
    """An instance with a light worker: main, sentinel, worker, monitor and pusher."""
    instance.start("worker", "--light")
    eventually(lambda: len(instance.pids()) == 5)
    return instance


def test_light_worker_serves_the_light_queue_and_makes_its_schedules(instance: Instance) -> None:
    worker = instance.start("worker", "--light")
    assert worker.stdout
    while "[light] running" not in (line := worker.stdout.readline()):
        assert line, "the worker ended"
    with contextlib.closing(sqlite3.connect(instance.home / "navembed.sqlite3")) as database:
        assert database.execute("SELECT DISTINCT cluster FROM django_q_schedule").fetchall() == [("light",)]


def test_idle_child_killed_ends_the_whole_cluster(cluster: Instance, eventually: Eventually) -> None:
    [main] = cluster.started
    [sentinel] = children(main.pid)
    os.kill(max(children(sentinel)), signal.SIGKILL)
    assert main.wait(30) == 1
    eventually(lambda: cluster.pids() == set())


def test_killed_main_process_takes_its_children_along(cluster: Instance, eventually: Eventually) -> None:
    cluster.started[0].kill()
    eventually(lambda: cluster.pids() == set())


def test_killed_sentinel_ends_the_cluster(cluster: Instance, eventually: Eventually) -> None:
    [main] = cluster.started
    [sentinel] = children(main.pid)
    os.kill(sentinel, signal.SIGKILL)
    assert main.wait(30) == 1
    eventually(lambda: cluster.pids() == set())


def test_termination_ends_the_cluster_cleanly(cluster: Instance) -> None:
    [main] = cluster.started
    main.terminate()
    assert main.wait(30) == 0
    assert cluster.pids() == set()
