"""The Django-Q cluster of `manage.py worker`: it never hangs after a kill, and leaves no orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from collections.abc import Callable

import pytest

from tests.freezing import freeze
from tests.instance.conftest import Beside, Instance, children

Eventually = Callable[..., None]
LIGHT = {"Q_CLUSTER_NAME": "light"}  # else it starts itself anew with this name
AT_ONCE = """
from django.core.management import call_command
from django_q.conf import Conf
Conf.GUARD_CYCLE = 30  # schedules are looked at after so many seconds of rounds, be it the first
call_command("worker", light=True)
"""


@pytest.fixture
def cluster(instance: Instance, eventually: Eventually) -> Instance:
    """An instance with a light worker: main, sentinel, worker, monitor and pusher."""
    instance.environment |= LIGHT
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


def test_cluster_with_a_stopped_process_ends_and_an_idle_one_lives(beside: Beside, eventually: Eventually) -> None:
    """Three and one side by side, with a short patience: a message every two seconds, the end after eight."""
    clusters = {name: beside(name, **LIGHT) for name in ("worker", "monitor", "guard", "idle")}
    for cluster in clusters.values():
        cluster.start("worker", "--light", "--beat-seconds", "8")
    for cluster in clusters.values():
        eventually(lambda cluster=cluster: len(cluster.pids()) == 5)
    time.sleep(4)
    main = {name: cluster.started[0] for name, cluster in clusters.items()}
    guards = {name: children(process.pid)[0] for name, process in main.items()}
    stopped = {"worker": min(children(guards["worker"])), "monitor": sorted(children(guards["monitor"]))[1]}
    for pid in (stopped | {"guard": guards["guard"]}).values():
        freeze(pid)
    for name in ("worker", "monitor", "guard"):
        assert main[name].wait(120) == 1
        eventually(lambda name=name: clusters[name].pids() == set())
    assert main["idle"].poll() is None
    assert piled_up(clusters["idle"]) <= 1


def piled_up(cluster: Instance) -> int:
    """Messages in the queue; what became of those before is not kept."""
    with contextlib.closing(sqlite3.connect(cluster.home / "navembed.sqlite3")) as database:
        assert database.execute("SELECT COUNT(*) FROM django_q_task").fetchone() == (0,)
        [messages] = database.execute("SELECT COUNT(*) FROM django_q_ormq").fetchone()
    return int(messages)


def test_schedule_that_somebody_wrote_into_the_database_runs_nothing(instance: Instance) -> None:
    with contextlib.closing(sqlite3.connect(instance.home / "navembed.sqlite3")) as database:
        database.execute(
            "INSERT INTO django_q_schedule (func, args, schedule_type, repeats, next_run, cluster)"
            " VALUES ('os.mkdir', ?, 'O', -1, '2020-01-01', 'light')",
            (repr((str(instance.home / "trapped"),)),),
        )
        database.commit()
    instance.environment |= LIGHT
    worker = instance.start(code=AT_ONCE)
    assert worker.stdout
    while "is no task of ours" not in (line := worker.stdout.readline()):
        assert line, "the worker ended"
    assert not (instance.home / "trapped").exists()
