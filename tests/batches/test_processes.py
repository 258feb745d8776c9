"""Jobs as an operator runs them: commands and workers as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings as site
from django.core.management import CommandError, call_command

from batches import services
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.embedder.client import EmbedderClient
from embeddings.models import Embedding
from navembed_site.process import locks
from navembed_site.process.slow_calls import wait_for
from tests.batches.conftest import Music
from tests.instance.conftest import Instance, instance, migrated_database
from tests.instances import EmbedderProcess
from tests.milvus import LiteServer

__all__ = ["instance", "migrated_database"]

IMPATIENT = """
import socket
from embeddings.embedder import server
setup = server._Handler.setup
server._Handler.timeout = 1  # for a caller that takes nothing, of which little is kept for it
server._Handler.setup = lambda self: (self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096), setup(self))
"""
Start = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def machine(instance: Instance, music: Music, checkpoints: dict[str, Path]) -> Instance:
    """An instance over the library, with tiny models; nothing runs."""
    instance.environment |= music.environment | {"NAVEMBED_LIBRARY": "navidrome", "NAVIDROME_MUSIC_ROOT": ""}
    instance.environment |= {f"NAVEMBED_{key.upper()}": str(folder) for key, folder in checkpoints.items()}
    return instance


def figures(machine: Instance, *options: str) -> dict[str, Any]:
    ended = machine.run("library_status", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def embedded(machine: Instance, *options: str) -> subprocess.CompletedProcess[str]:
    return machine.run("embed_library", "--models", "latent", *options)


def test_embed_library_with_nothing_running(machine: Instance, music: Music) -> None:
    """A job left unfinished goes on, and failed tracks make the command fail."""
    music.add("good.flac")
    music.add_damaged()
    started = embedded(machine, "--no-wait")
    assert (started.returncode, started.stderr) == (0, "")  # no log lines between
    assert started.stdout == (
        "Job 1 (latent) is active and about to go on. "
        "No worker runs on this machine; `serve` and `embed_library` start one.\n"
    )
    assert figures(machine)["last_job"]["status"] == "initialized"
    ended = machine.run("embed_library")
    assert ended.returncode == 1
    assert "job 1 was left unfinished and goes on" in ended.stderr
    assert "1 of 2 tracks failed; `manage.py job show 1 --failed` lists why" in ended.stderr
    assert machine.pids() == set()
    assert "damaged.mp3\n  latent: " in machine.run("job", "show", "1", "--failed").stdout
    *_, last = ended.stdout.splitlines()
    assert last == "completed_with_errors: 100.0 % 2/2 tracks, 1 failed"
    assert figures(machine)["models"]["latent"]["failed"] == 1


def test_embed_library_beside_serve(machine: Instance, music: Music, embedder: EmbedderProcess) -> None:
    (machine.home / embedder.socket.name).symlink_to(embedder.socket)  # as if `serve` had started it
    assert machine.run("serve", "--only", "milvus_lite,worker", "--detach").returncode == 0
    nothing = embedded(machine)
    assert (nothing.returncode, nothing.stdout.splitlines()[-1]) == (0, "Nothing was missing, and nothing had changed.")
    for number in range(3):
        music.add(f"track{number}.flac", seed=number)
    ended = embedded(machine, "--limit", "2", "--json")
    assert ended.returncode == 0, ended.stderr
    end = json.loads(ended.stdout)
    assert (end["status"], end["total_tracks"], end["processed_tracks"]) == ("completed", 2, 2)
    assert "completed: 100.0 % 2/2 tracks" in ended.stderr
    check_figures(machine)
    check_interruption(machine)


def check_figures(machine: Instance) -> None:
    """Two of three tracks are embedded, which Milvus has, until the database loses one."""
    status = figures(machine, "--verify")
    assert (status["tracks"], status["playable"], status["last_job"]["status"]) == (3, 3, "completed")
    assert status["models"]["latent"] == {
        "embedded": 2, "missing": 1, "failed": 0, "ignored": 0, "orphaned": 0, "indexed": 2, "in_milvus": 2,
        "consistent": True,
    }  # fmt: skip
    with contextlib.closing(sqlite3.connect(machine.home / "navembed.sqlite3")) as database, database:
        database.execute("DELETE FROM embeddings_embedding WHERE id = (SELECT min(id) FROM embeddings_embedding)")
    verified = machine.run("library_status", "--verify")
    assert (verified.returncode, "Milvus does not hold what the database says (latent)" in verified.stderr) == (1, True)


def check_interruption(machine: Instance) -> None:
    """Who only follows a job of `serve` is told that it goes on."""
    command = machine.start("embed_library", "--models", "latent")
    assert command.stdout
    command.stdout.readline()
    command.send_signal(signal.SIGINT)
    said, _ = command.communicate(timeout=120)
    assert re.search("job . goes on without this command; `manage.py job pause` or `job cancel` stops it", said)


def test_interrupted_command_stops_what_it_started_and_says_how_to_go_on(machine: Instance, music: Music) -> None:
    music.add("good.flac")
    command = machine.start("embed_library", "--models", "latent")
    while not (machine.home / "milvus.sock").exists():
        assert command.poll() is None
        time.sleep(0.05)
    command.send_signal(signal.SIGINT)
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 1
    assert "job 1 goes on when this command or `serve` is started" in said
    assert "Traceback" not in said
    assert machine.pids() == set()


@pytest.mark.django_db
def test_embed_library_beside_a_running_job_waits_in_line(music: Music) -> None:
    services.start_job()
    with locks.hold("worker"):
        call_command("embed_library", "--no-wait")
    assert list(BatchJob.objects.values_list("status", flat=True)) == ["queued", "initialized"]


@pytest.mark.parametrize("wrong", [["--limit", "0"], ["--models", "vggish"]])
def test_wrong_options_are_refused(wrong: list[str]) -> None:
    with pytest.raises(CommandError, match="argument"):
        call_command("embed_library", *wrong)


# The worker of a job is killed, or stopped for a while


@pytest.fixture
def worker(music: Music, milvus: LiteServer) -> Iterator[Start]:
    """Starts the worker of this instance, over the library and the Lite server of the test."""
    started: list[subprocess.Popen[bytes]] = []
    environment = os.environ | music.environment | {"NAVIDROME_MILVUS_URI": f"unix:{milvus.socket}"}

    def start() -> subprocess.Popen[bytes]:
        with (site.NAVEMBED_HOME / "worker.log").open("ab") as log:
            command = [sys.executable, str(site.BASE_DIR / "manage.py"), "worker"]
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def wait_until(job: BatchJob, condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        job.refresh_from_db()
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"{job} is {job.status}: {job.message}")


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
@pytest.mark.usefixtures("embedder")
def test_worker_killed_in_the_middle_of_a_job_is_followed_by_another(music: Music, worker: Start) -> None:
    for number in range(14):
        music.add(f"track{number:02}.flac", seed=number, duration=60.0)  # they seem so long that a chunk is two
    job = services.start_job(JobRequest(["latent"]))
    first = worker()
    wait_until(job, lambda: job.processed_tracks > 0)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = dict(Embedding.objects.values_list("pk", "updated_at"))
    assert job.is_open
    worker()
    wait_until(job, lambda: not job.is_open)
    assert (job.status, job.processed_tracks, job.failed_tracks) == ("completed", 14, 0)
    after = dict(Embedding.objects.values_list("pk", "updated_at"))
    assert len(after) == 14
    assert before.items() <= after.items()
    assert not Embedding.objects.exclude(index_state="indexed").exists()


def stop_until(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> None:
    """Stop it with all its children for a while."""
    everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in everybody:
        each.suspend()
    assert wait_for(condition, 600)
    for each in everybody:
        each.resume()


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_a_worker_that_was_stopped_for_long_blames_nobody(
    music: Music, worker: Start, embedder: EmbedderProcess
) -> None:
    embedder.restart(first=IMPATIENT)
    pid = embedder.pid
    for number in range(6):
        music.add(f"track{number}.flac", seed=number)
    job = services.start_job(JobRequest(["mert"]))
    process = worker()
    wait_until(job, lambda: EmbedderClient().status()["busy"])  # for seconds: it loads the model
    stop_until(process, lambda: "has gone" in embedder.log())  # it has given up a caller that took nothing
    wait_until(job, lambda: not job.is_open)
    assert (job.status, job.processed_tracks, embedder.pid, embedder.running) == ("completed", 6, pid, True)
    assert not job.results.exclude(deaths=0).exists()
