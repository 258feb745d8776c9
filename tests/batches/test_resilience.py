"""What a device does about an embedder that hangs or dies, a database that goes away, a human who wants to stop."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from django.db import OperationalError, connection

from batches import services
from batches.engine import database_wait, deaths, runner
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.embedder import client
from embeddings.embedder.client import EmbedderClient
from embeddings.errors import EmbedderUnavailable
from embeddings.models import Embedding
from navembed_site.demo.encode import write_audio
from navembed_site.process.patience import is_readable
from tests.audio_files import tone
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import work_on
from tests.batches.whole_jobs import at_event, computed, run_until_waiting, statuses
from tests.instances import EmbedderProcess

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("milvus", "embedder", "no_pauses")]

Status = BatchJob.Status


def start() -> BatchJob:
    return services.start_job(JobRequest(["latent"]))


def pause() -> None:
    services.pause_job(BatchJob.objects.get())


@pytest.mark.database
def test_pause_in_the_middle_of_a_chunk_and_resume(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start()
    with monkeypatch.context() as patch:
        at_event(3, pause, patch)
        assert run_turn() == "idle"
    job.refresh_from_db()
    kept = computed()
    assert (job.status, statuses(job)["running"], 0 < len(kept) < 4) == (Status.PAUSED, 0, True)
    assert Embedding.objects.filter(index_state="indexed").count() == len(kept)
    services.resume_job(job)
    run_to_end(job)
    assert (job.status, job.processed_tracks) == (Status.COMPLETED, 4)
    assert kept.items() <= computed().items()


def run_turn() -> str:
    return work_on()


def test_paused_job_needs_no_device(four: Music) -> None:
    job = start()
    services.pause_job(job)
    assert run_turn() == "idle"
    job.refresh_from_db()
    assert (job.status, services.watch()) == (Status.PAUSED, 0)


def test_embedder_that_hangs_is_killed_and_the_chunk_is_halved(
    four: Music, run_to_end: RunToEnd, embedder: EmbedderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HANG_SECONDS", 2.0)
    monkeypatch.setattr(runner, "HANG_FACTOR", 0.0)
    kill = EmbedderClient.kill

    def kill_and_supervise(client: EmbedderClient, pid: int) -> None:
        kill(client, pid)
        embedder.kill()
        monkeypatch.setattr(runner, "HANG_SECONDS", 120.0)
        embedder.restart(wait=False)

    monkeypatch.setattr(EmbedderClient, "kill", kill_and_supervise)
    at_event(1, lambda: freeze_decoders(embedder), monkeypatch)
    (four.root / "track3.flac").unlink()  # whatever is finished by then: one is left to be tried again
    job = run_to_end(start())
    assert (job.processed_tracks, job.failed_tracks) == (3, 1)
    assert 1 in job.results.values_list("deaths", flat=True)


def freeze_decoders(embedder: EmbedderProcess) -> None:
    for child in psutil.Process(embedder.pid).children(recursive=True):
        child.suspend()


def test_death_without_a_successor_is_nobodys_fault(
    four: Music, embedder: EmbedderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deaths, "SUCCESSOR_SECONDS", 0.0)
    write_audio(four.root / "track3.flac", tone(200, 8_000), 8_000)  # it has not ended when it dies
    at_event(2, lambda: embedder.kill(signal.SIGKILL), monkeypatch)
    job = start()
    run_until_waiting(job, monkeypatch)
    left = job.results.filter(status="pending").values_list("deaths", "attempts", "chunk_limit").distinct()
    assert list(left) == [(0, 0, None)]


@pytest.fixture
def failing_database() -> Any:
    """Fails the next statements that begin with given words, a given number of times."""
    left: dict[str, int] = {}

    def execute(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        for words, times in left.items():
            if sql.startswith(words) and times > 0:
                left[words] -= 1
                raise OperationalError("database is locked")
        return run(sql, *arguments)

    with connection.execute_wrapper(execute):
        yield left


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "words", ['INSERT INTO "embeddings_embedding"', 'UPDATE "batches_device"', 'INSERT INTO "batches_trackresult"']
)
def test_database_that_fails_for_a_while_costs_no_computing(
    four: Music,
    run_to_end: RunToEnd,
    failing_database: dict[str, int],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database_wait, "MAX_PAUSE_SECONDS", 0.1)
    outcomes: list[str] = []
    job = start()
    failing_database[words] = 0
    at_event(4, lambda: failing_database.update({words: 3}), monkeypatch)
    commit = runner.chunks.commit

    def counting(job: Any, lease: Any, chunk: Any, found: Any, *rest: Any) -> None:
        commit(job, lease, chunk, found, *rest)
        outcomes.extend(outcome.id for outcome in found)

    monkeypatch.setattr(runner.chunks, "commit", counting)
    run_to_end(job)
    assert (job.status, job.processed_tracks, failing_database[words]) == (Status.COMPLETED, 4, 0)
    assert sorted(outcomes) == ["track0", "track1", "track2", "track3"]


@pytest.mark.django_db(transaction=True)
def test_slow_description_of_weights_does_not_hold_up_a_cancel(four: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def slow(client: EmbedderClient, model: str) -> Any:
        services.cancel_job(BatchJob.objects.get())
        connection.close()  # of a thread beside the one that works
        assert over.wait(300)
        raise EmbedderUnavailable("nobody waits for this")

    monkeypatch.setattr(EmbedderClient, "describe", slow)
    job = start()
    run_turn()
    job.refresh_from_db()
    over.set()
    assert job.status == Status.CANCELLED


def stop_until_missed(embedder: EmbedderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the embedder until the worker has noticed, and told that the job waits for it to go on."""
    is_stopped = EmbedderClient.is_stopped
    looks = itertools.count(1)

    def let_go_on_later(asking: EmbedderClient) -> bool:
        if next(looks) == 3:
            assert "has been stopped" in BatchJob.objects.get().message
            embedder.kill(signal.SIGCONT)
            monkeypatch.setattr(client, "is_readable", is_readable)
        return is_stopped(asking)

    monkeypatch.setattr(EmbedderClient, "is_stopped", let_go_on_later)
    embedder.kill(signal.SIGSTOP)
    monkeypatch.setattr(client, "is_readable", lambda descriptor, _: is_readable(descriptor, 1.0))


def test_an_embedder_that_is_stopped_for_a_while_is_waited_for(
    four: Music, run_to_end: RunToEnd, embedder: EmbedderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = embedder.pid
    at_event(1, lambda: stop_until_missed(embedder, monkeypatch), monkeypatch)
    job = run_to_end(start())
    assert (job.status, embedder.pid, embedder.running) == (Status.COMPLETED, pid, True)
    assert not job.results.exclude(deaths=0).exists()
