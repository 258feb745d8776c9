"""Commands that start what they need, with the real Lite server and worker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from django.conf import settings

from navembed_site.instance import needed
from navembed_site.instance.needed import ProcessStartError, needed_processes
from navembed_site.instance.programs import Program, programs
from navembed_site.process import locks
from navembed_site.process.unix_socket import accepts
from tests.instance.conftest import Instance, children

Eventually = Callable[..., None]
KEEP = """
import time
from navembed_site.instance.needed import needed_processes
with needed_processes("milvus_lite"):
    print("ready", flush=True)
    time.sleep(300)
"""
ORPHAN = """
import os, time
from navembed_site.process.parent import tie_forks_to_parent
os.register_at_fork(after_in_child=lambda: time.sleep(1))
tie_forks_to_parent()
os._exit(0) if os.fork() else time.sleep(300)
"""


def test_process_runs_inside_the_block_is_shared_and_gone_after_it() -> None:
    before = children(os.getpid(), "milvus_lite")  # those of other tests
    with needed_processes("milvus_lite"):
        with needed_processes("milvus_lite"):
            assert len(children(os.getpid(), "milvus_lite")) == len(before) + 1
        assert accepts(settings.MILVUS_LITE_SOCKET)
    assert not programs()["milvus_lite"].is_running


def test_killed_process_is_started_again(eventually: Eventually) -> None:
    with needed_processes("milvus_lite"):
        server = locks.holder("milvus_lite")
        assert server
        os.kill(server, signal.SIGKILL)
        eventually(lambda: not accepts(settings.MILVUS_LITE_SOCKET))
        eventually(lambda: accepts(settings.MILVUS_LITE_SOCKET))


def test_children_die_with_a_killed_command(instance: Instance, eventually: Eventually) -> None:
    command = instance.start(code=KEEP)
    assert command.stdout
    assert command.stdout.readline() == "ready\n"
    assert len(instance.pids()) == 2
    command.kill()
    eventually(lambda: instance.pids() == set())


def test_fork_whose_parent_dies_at_once_ends_too(instance: Instance, eventually: Eventually) -> None:
    assert instance.start(code=ORPHAN).wait(120) == 0
    assert len(instance.pids()) == 1
    eventually(lambda: instance.pids() == set())


def test_process_that_ends_at_its_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Program("broken", ("status", "--nonsense"))
    monkeypatch.setattr(needed, "programs", lambda: {"broken": broken})
    with (
        pytest.raises(ProcessStartError, match=r"^broken ended at its start: .* --nonsense"),
        needed_processes("broken"),
    ):
        pass


def test_a_configured_milvus_needs_no_server_of_ours(settings: object) -> None:
    settings.MILVUS_URI = "http://milvus.example:19530"  # type: ignore[attr-defined]
    with needed_processes("milvus_lite"):
        assert "milvus_lite" not in programs()


def test_each_device_has_an_embedder(settings: object) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")  # type: ignore[attr-defined]
    assert [p.name for p in programs().values() if p.kind == "embedder"] == ["embedder-0", "embedder-1"]
