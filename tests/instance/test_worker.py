"""The Django-Q cluster of `manage.py worker`: it never hangs after a kill, and leaves no orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable

import pytest

from tests.instance.conftest import Instance, children

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
    assert main.wait(120) == 1
    eventually(lambda: cluster.pids() == set())


def test_killed_main_process_takes_its_children_along(cluster: Instance, eventually: Eventually) -> None:
    cluster.started[0].kill()
    eventually(lambda: cluster.pids() == set())


def test_killed_sentinel_ends_the_cluster(cluster: Instance, eventually: Eventually) -> None:
    [main] = cluster.started
    [sentinel] = children(main.pid)
    os.kill(sentinel, signal.SIGKILL)
    assert main.wait(120) == 1
    eventually(lambda: cluster.pids() == set())


def test_termination_ends_the_cluster_cleanly(cluster: Instance) -> None:
    [main] = cluster.started
    main.terminate()
    assert main.wait(120) == 0
    assert cluster.pids() == set()


# Heartbeat


@pytest.fixture
def watched(instance: Instance, eventually: Eventually) -> Instance:
    """As above, with a short patience: a message every two seconds, and the end after eight without an answer."""
    instance.start("worker", "--light", "--beat-seconds", "8")
    eventually(lambda: len(instance.pids()) == 5)
    time.sleep(4)
    return instance


@pytest.mark.parametrize("child", [0, 1], ids=["worker", "monitor"])
def test_cluster_with_a_stopped_child_ends(watched: Instance, eventually: Eventually, child: int) -> None:
    [main] = watched.started
    [sentinel] = children(main.pid)
    os.kill(sorted(children(sentinel))[child], signal.SIGSTOP)
    assert main.wait(120) == 1
    eventually(lambda: watched.pids() == set())


def test_cluster_with_a_stopped_guard_ends(watched: Instance, eventually: Eventually) -> None:
    [main] = watched.started
    os.kill(children(main.pid)[0], signal.SIGSTOP)
    assert main.wait(120) == 1
    eventually(lambda: watched.pids() == set())


def test_idle_cluster_lives_and_its_messages_do_not_pile_up(watched: Instance) -> None:
    time.sleep(6)
    with contextlib.closing(sqlite3.connect(watched.home / "navembed.sqlite3")) as database:
        [messages] = database.execute("SELECT COUNT(*) FROM django_q_ormq").fetchone()
        [saved] = database.execute("SELECT COUNT(*) FROM django_q_task").fetchone()
    assert (watched.started[0].poll(), saved) == (None, 0)
    assert messages <= 1


def test_schedule_that_somebody_wrote_into_the_database_runs_nothing(instance: Instance) -> None:
    with contextlib.closing(sqlite3.connect(instance.home / "navembed.sqlite3")) as database:
        database.execute(
            "INSERT INTO django_q_schedule (func, args, schedule_type, repeats, next_run, cluster)"
            " VALUES ('os.mkdir', ?, 'O', -1, '2020-01-01', 'light')",
            (repr((str(instance.home / "trapped"),)),),
        )
        database.commit()
    worker = instance.start("worker", "--light")
    assert worker.stdout
    while "is no task of ours" not in (line := worker.stdout.readline()):
        assert line, "the worker ended"
    assert not (instance.home / "trapped").exists()
