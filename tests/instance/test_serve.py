"""`serve`, `status` and `stop` as an operator sees them."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError

from navembed_site.process.unix_socket import accepts
from tests.instance.conftest import Instance

Eventually = Callable[..., None]


def test_killed_process_comes_back_and_ctrl_c_leaves_nothing(instance: Instance, eventually: Eventually) -> None:
    serve = instance.start("serve", "--only", "web,light")
    eventually(instance.answers)
    killed = instance.processes()["web"]["pid"]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: instance.processes()["web"]["pid"] not in (0, killed))
    eventually(instance.answers)  # no gap to look for: the socket stays open, so a quick restart refuses nobody
    os.kill(serve.pid, signal.SIGINT)
    said = serve.communicate(timeout=60)[0]
    assert serve.returncode == 0
    assert instance.pids() == set()
    assert "Ctrl-C stops all of them." in said
    assert "CRIT" not in said


def test_detached_instance_runs_all_programs_and_stops(instance: Instance, eventually: Eventually) -> None:
    started = instance.run("serve", "--detach")
    assert (started.returncode, instance.answers()) == (0, True), started.stderr
    eventually(lambda: accepts(instance.home / "embedder.sock") and accepts(instance.home / "milvus.sock"))
    assert instance.run("status").returncode == 0
    stopped = instance.run("stop")
    assert (stopped.returncode, stopped.stdout) == (0, "Stopped.\n")
    assert instance.pids() == set()


def test_serve_offers_a_link_for_the_first_user_and_refuses_to_run_twice(instance: Instance) -> None:
    first = instance.run("serve", "--only", "web", "--detach")
    assert f"http://127.0.0.1:{instance.port}/setup/" in first.stdout
    second = instance.run("serve", "--only", "web")
    assert second.returncode == 1
    assert f"serve runs already for {instance.home}" in second.stderr


def test_killed_process_manager_takes_all_processes_along(instance: Instance, eventually: Eventually) -> None:
    serve = instance.start("serve", "--only", "web,light")
    eventually(instance.answers)
    serve.kill()
    eventually(lambda: instance.pids() == set())


def test_status_and_stop_say_that_nothing_runs(instance: Instance) -> None:
    status, stop = instance.run("status", "--json"), instance.run("stop")
    assert (status.returncode, json.loads(status.stdout)) == (1, {"running": False, "processes": [], "hosts": []})
    assert (stop.returncode, stop.stdout) == (0, "serve does not run.\n")


def test_occupied_port_is_named_with_its_variable(instance: Instance) -> None:
    with socket.create_server(("127.0.0.1", instance.port)):
        refused = instance.run("serve", "--only", "web")
    assert refused.returncode == 1
    assert f"127.0.0.1:{instance.port}" in refused.stderr
    assert "NAVIDROME_RECOMMENDER_PORT" in refused.stderr


def test_wrong_value_stops_serve_with_its_name(instance: Instance) -> None:
    refused = instance.run("serve", NAVEMBED_MODEL_IDLE_SECONDS="soon")
    assert refused.returncode == 1
    assert "NAVEMBED_MODEL_IDLE_SECONDS is 'soon'; it must be a number" in refused.stderr


def test_a_further_host_needs_no_library(instance: Instance, eventually: Eventually) -> None:
    instance.environment["NAVIDROME_MUSIC_ROOT"] = ""
    assert "NAVIDROME_MUSIC_ROOT is not set" in instance.run("serve", "--only", "web").stderr
    further = instance.start("serve", "--only", "worker")
    eventually((instance.home / "serve.sock").exists)
    assert "worker" in instance.processes()
    os.kill(further.pid, signal.SIGINT)
    assert further.wait(60) == 0


def test_missing_library_stops_serve_with_its_name(settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", Path("/nowhere/navidrome.db")
    with pytest.raises(SystemCheckError, match=r"NAVIDROME_DB_PATH is '/nowhere/navidrome.db', which does not exist"):
        call_command("serve")


def test_unknown_program_is_refused_with_the_known_ones() -> None:
    known = "milvus_lite, embedder, worker, light, web, text"
    with pytest.raises(CommandError, match=rf"No program is named wep\. There are: {known}\."):
        call_command("serve", without=["wep"])
