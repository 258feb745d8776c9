"""An instance is found, and ended, whatever has become of its files and of its process manager."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings

from navembed_site.process.unix_socket import accepts
from tests.freezing import freeze
from tests.instance.conftest import Instance

Eventually = Callable[..., None]


@pytest.fixture
def served(instance: Instance, eventually: Eventually) -> Instance:
    instance.start("serve", "--only", "web,light")
    eventually(instance.answers)
    eventually((instance.home / "locks" / "light.lock").exists)
    eventually(lambda: instance.run("status").returncode == 0)
    return instance


def manager(instance: Instance) -> int:
    return instance.started[0].pid


def test_instance_is_found_and_ended_whatever_a_cleaner_has_deleted(served: Instance) -> None:
    shutil.rmtree(served.home / "run")
    assert served.run("status").returncode == 0
    shutil.rmtree(served.home / "locks")
    for socket in served.home.glob("*.sock"):
        socket.unlink()
    status = served.run("status")
    assert status.returncode == 1
    assert "does not answer" in status.stdout
    assert {"web", "light"} <= {line.split()[0] for line in status.stdout.splitlines()}
    refused = served.run("serve", "--only", "web")
    assert f"serve runs already for {served.home}" in refused.stderr
    assert (served.run("stop").stdout, served.pids()) == ("Stopped.\n", set())


def test_frozen_process_manager_is_named_and_stopped(served: Instance) -> None:
    freeze(manager(served))
    status = served.run("status", "--json")
    told = json.loads(status.stdout)
    assert (status.returncode, told["running"]) == (1, False)
    assert f"(process {manager(served)}) does not answer" in told["problems"][0]
    assert {"web", "light"} == {state["name"] for state in told["processes"]}
    assert (served.run("stop").stdout, served.pids()) == ("Stopped.\n", set())


def test_server_whose_socket_was_deleted_makes_another(instance: Instance, eventually: Eventually) -> None:
    instance.start("serve", "--only", "milvus_lite,embedder")
    sockets = [instance.home / "milvus.sock", instance.home / "embedder.sock"]
    for socket in sockets:
        eventually(lambda socket=socket: accepts(socket))
        socket.unlink()
    for socket in sockets:
        eventually(lambda socket=socket: accepts(socket))


def test_server_whose_socket_is_gone_before_it_looks_ends_too(short_tmp: Path) -> None:
    script = "import sys, time; from pathlib import Path; from navembed_site.process.unix_socket import end_without; "
    script += "end_without(Path(sys.argv[1])); time.sleep(60)"
    ended = subprocess.run([sys.executable, "-c", script, short_tmp / "gone.sock"], cwd=settings.BASE_DIR, check=False)
    assert ended.returncode == -signal.SIGTERM
