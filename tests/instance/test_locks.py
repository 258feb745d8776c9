"""Locks: one holder at a time, and none after its death."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable

import pytest

from navembed_site.process import locks
from tests.freezing import freeze
from tests.instance.conftest import Instance

HOLD = (
    "import time; from navembed_site.process.locks import hold; hold('x'); print('held', flush=True); time.sleep(300)"
)


def test_a_lock_is_held_until_it_is_released() -> None:
    with locks.hold("a"):
        assert locks.is_held("a")
        assert locks.holder("a") == os.getpid()
    assert not locks.is_held("a")


def test_a_lock_nobody_ever_took_is_free() -> None:
    assert not locks.is_held("never")


def test_forked_child_keeps_its_parents_lock() -> None:
    lock, (read, write) = locks.hold("b"), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        os.read(read, 1)  # until the parent closes its end
        os._exit(0)
    lock.release()
    assert locks.is_held("b")
    os.close(write)
    os.waitpid(child, 0)
    os.close(read)
    assert not locks.is_held("b")


def test_holder_of_a_deleted_file_is_found_waited_for_and_killed_though_frozen(
    instance: Instance, eventually: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.conf.settings.NAVEMBED_HOME", instance.home)
    first = instance.start(code=HOLD)
    assert first.stdout
    assert first.stdout.readline() == "held\n"
    shutil.rmtree(instance.home / "locks")
    assert (locks.is_held("x"), locks.holders("x")) == (True, {first.pid})
    with pytest.raises(BlockingIOError):
        locks.hold("x", wait=False)
    freeze(first.pid)
    locks.kill_holders("x")
    eventually(lambda: not locks.holders("x"))
    locks.hold("x", wait=False).release()


def test_waiting_process_takes_over_when_the_holder_is_killed(
    instance: Instance, eventually: Callable[..., None]
) -> None:
    first = instance.start(code=HOLD)
    assert first.stdout
    assert first.stdout.readline() == "held\n"
    second = instance.start(code=HOLD)
    assert second.stdout
    assert f"x runs already (process {first.pid}); waiting" in second.stdout.readline()
    first.send_signal(signal.SIGKILL)
    assert second.stdout.readline() == "held\n"
