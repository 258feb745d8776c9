"""A job from its start to its end in this process, with the real embedder and the real Lite server."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batches import services
from batches.engine import chunks
from batches.engine import music as engine_music
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.library import library_status
from batches.selectors.progress import snapshot
from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.work import TrackOutcome
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.index.sync import vector_store
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.spaces.vectors import from_bytes
from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.batches.conftest import SUFFIXES, Music, RunToEnd
from tests.batches.rows import work_on
from tests.batches.whole_jobs import at_event, computed, run_until_waiting, statuses
from tests.instances import EmbedderProcess
from tests.milvus import LiteServer

pytestmark = pytest.mark.usefixtures("milvus", "embedder", "no_pauses")

Status = BatchJob.Status


@pytest.fixture
def mixed(music: Music) -> Music:
    """A good file of each format, a damaged one, one that Navidrome misses, one that is not there."""
    for number, suffix in enumerate(SUFFIXES):
        music.add(f"good{number}{suffix}", seed=number)
    music.add_damaged()
    music.add("hidden.flac", missing=True)
    music.add_row("absent.flac")
    return music


def cancel() -> None:
    services.cancel_job(BatchJob.objects.get())


# What comes out


@pytest.mark.database
def test_every_track_is_embedded_or_failed_with_a_reason(mixed: Music, run_to_end: RunToEnd) -> None:
    job = run_to_end(services.start_job())
    assert job.status == Status.COMPLETED_WITH_ERRORS
    assert (job.total_tracks, job.processed_tracks, job.failed_tracks) == (8, 6, 2)
    failed = job.results.filter(status="failed").values_list("track_id", "error_class", "attempts").distinct()
    assert sorted(failed) == [("absent", "AudioFileMissing", 3), ("damaged", "AudioError", 1)]
    status = library_status(ask_milvus=True)
    assert (status["playable"], set(status["models"])) == (8, set(MODEL_KEYS))
    for counts in status["models"].values():
        assert counts == {
            "embedded": 6, "missing": 0, "failed": 2, "ignored": 0, "orphaned": 0, "indexed": 6, "in_milvus": 6,
            "consistent": True,
        }  # fmt: skip


def test_vectors_have_unit_length_and_the_aliases_lead_to_them(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job())
    for row in Embedding.objects.select_related("space"):
        vector = from_bytes(row.vector, encoder_class(row.space.model).stored_dtype, row.space.dimension)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
    for model in MODEL_KEYS:
        assert vector_store()._read("describe_alias", encoder_class(model).alias)["collection_name"]


def test_nothing_to_do_is_a_completed_job_at_100_percent(music: Music, run_to_end: RunToEnd) -> None:
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert (job.status, job.total_tracks, snapshot(job).percent) == (Status.COMPLETED, 0, 100.0)


def test_second_job_skips_everything_that_is_up_to_date(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job(JobRequest(["muq"])))
    before = computed()
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert (job.status, job.total_tracks, job.progress.get().skipped) == (Status.COMPLETED, 0, {"up to date": 4})
    assert computed() == before


def test_changed_file_is_embedded_and_indexed_again(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job(JobRequest(["latent"])))
    before = dict(Embedding.objects.values_list("track_id", "audio_hash"))
    four.add("track2.mp3", seed=1, id="other")
    (four.root / "track2.mp3").replace(four.root / "track2.flac")
    four.remove("other")
    four.change("track2", updated_at="2031-01-01")
    job = run_to_end(services.start_job(JobRequest(["latent"])))
    after = dict(Embedding.objects.values_list("track_id", "audio_hash"))
    assert (job.status, job.processed_tracks) == (Status.COMPLETED, 1)
    assert {track for track in after if after[track] != before[track]} == {"track2"}
    assert not Embedding.objects.exclude(index_state="indexed").exists()


@pytest.mark.database
def test_other_weights_replace_the_live_space_at_the_end(four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job(JobRequest(["muq"])))
    EmbeddingSpace.objects.update(fingerprint="of other weights")
    old = EmbeddingSpace.objects.get()
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    new = EmbeddingSpace.objects.get(status="live")
    assert (job.processed_tracks, new.embeddings.count(), old.embeddings.count()) == (4, 4, 4)
    alias = vector_store()._read("describe_alias", encoder_class("muq").alias)
    assert alias["collection_name"] == new.collection != old.collection


# Cancel and resume


@pytest.mark.database
@pytest.mark.parametrize("event", [2, 5])
def test_cancelled_job_keeps_what_it_did_and_resume_computes_only_the_rest(
    four: Music, run_to_end: RunToEnd, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch, event: int
) -> None:
    with monkeypatch.context() as patch:
        at_event(event, cancel, patch)
        job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert job.status == Status.CANCELLED
    kept = computed()
    assert len(kept) == job.processed_tracks < 4
    assert Embedding.objects.filter(index_state="indexed").count() == len(kept)
    assert statuses(job) == {"pending": 4 - len(kept), "running": 0, "succeeded": len(kept), "failed": 0}
    services.resume_job(job)
    run_to_end(job)
    assert (job.status, job.processed_tracks) == (Status.COMPLETED, 4)
    assert kept.items() <= computed().items()


def test_cancel_in_the_middle_of_a_chunk_keeps_its_finished_tracks(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_event(3, cancel, monkeypatch)
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert job.status == Status.CANCELLED
    assert 0 < job.processed_tracks < 4
    assert statuses(job)["running"] == 0


# Things that go away and come back


def test_embedder_killed_in_the_middle_of_a_chunk(
    four: Music,
    run_to_end: RunToEnd,
    embedder: EmbedderProcess,
    one_track_a_chunk: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kill() -> None:
        embedder.kill(signal.SIGKILL)
        embedder.restart(wait=False)

    for number in (1, 2, 3):
        write_audio(four.root / f"track{number}.flac", tone(200, 8_000, number), 8_000)  # several device batches
    at_event(4, kill, monkeypatch)  # after the step, the outcome and the end of the first track
    job = run_to_end(services.start_job(JobRequest(["latent"])))
    assert (job.status, job.processed_tracks, job.failed_tracks) == (Status.COMPLETED, 4, 0)
    # The embedder may have been further than what was read of its answers; only the track that it had is blamed.
    assert sorted(job.results.values_list("attempts", "deaths")) == [(1, 0), (1, 0), (1, 0), (2, 1)]
    assert library_status(ask_milvus=True)["models"]["latent"]["in_milvus"] == 4


def test_milvus_away_makes_the_job_wait_and_is_brought_up_to_date_after(
    four: Music, run_to_end: RunToEnd, milvus: LiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = services.start_job(JobRequest(["latent"]))
    milvus.end(signal.SIGKILL)
    assert "nothing listens" in run_until_waiting(job, monkeypatch)
    milvus.start()
    run_to_end(job)
    assert (job.status, job.message) == (Status.COMPLETED, "")
    assert library_status(ask_milvus=True)["models"]["latent"]["in_milvus"] == 4


def test_the_embedder_has_the_next_chunk_meanwhile_and_a_pause_keeps_what_it_made_of_it(
    four: Music, run_to_end: RunToEnd, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, embed, finished = chunks.commit, EmbedderClient.embed, threading.Semaphore(0)

    def telling(client: EmbedderClient, *arguments: Any) -> Iterator[object]:
        for event in embed(client, *arguments):
            yield event
            if isinstance(event, TrackOutcome):
                finished.release()

    def pausing(job: BatchJob, *arguments: Any) -> None:
        commit(job, *arguments)
        if job.results.filter(status="succeeded").count() == 1:
            services.pause_job(job)
            assert finished.acquire(timeout=120)
            assert finished.acquire(timeout=120)

    monkeypatch.setattr(EmbedderClient, "embed", telling)
    monkeypatch.setattr(chunks, "commit", pausing)
    job = services.start_job(JobRequest(["latent"]))
    work_on()
    job.refresh_from_db()
    assert (job.status, statuses(job)["succeeded"], statuses(job)["pending"]) == (Status.PAUSED, 2, 2)
    before = computed()
    services.resume_job(job)
    run_to_end(job)
    assert job.processed_tracks == 4
    assert computed().items() >= before.items()


def test_milvus_lost_after_a_commit_gets_it_before_more_is_computed(
    four: Music, run_to_end: RunToEnd, milvus: LiteServer, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = services.start_job(JobRequest(["latent"]))
    with monkeypatch.context() as patch:
        at_event(1, lambda: milvus.end(signal.SIGKILL), patch)
        run_until_waiting(job, patch)
    committed = statuses(job)["succeeded"]
    assert committed in (1, 2)  # the embedder had the second chunk, too
    run_until_waiting(job, monkeypatch)
    assert (statuses(job)["succeeded"], statuses(job)["pending"]) == (committed, 4 - committed)
    milvus.start()
    run_to_end(job)
    assert library_status(ask_milvus=True)["models"]["latent"]["in_milvus"] == 4


def test_empty_music_folder_makes_the_job_wait_and_no_track_fails(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = four.root.with_name("away")
    four.root.rename(away)
    four.root.mkdir()  # as a mount point is without its mount
    job = services.start_job(JobRequest(["latent"]))
    assert f"{four.root} is empty or not mounted" in run_until_waiting(job, monkeypatch)
    assert statuses(job) == {"pending": 4, "running": 0, "succeeded": 0, "failed": 0}
    four.root.rmdir()
    away.rename(four.root)
    run_to_end(job)
    assert (job.status, job.processed_tracks) == (Status.COMPLETED, 4)
    assert set(job.results.values_list("attempts", flat=True)) == {1}


def test_share_lost_in_the_middle_of_a_chunk_keeps_what_was_done(
    four: Music, run_to_end: RunToEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    (four.root / "track3.flac").unlink()
    look = engine_music.why_away

    def look_late(*arguments: Any) -> Any:
        if four.root.exists():
            four.root.rename(four.root.with_name("away"))
        return look(*arguments)

    job = services.start_job(JobRequest(["latent"]))
    with monkeypatch.context() as patch:
        patch.setattr(engine_music, "why_away", look_late)
        assert "not mounted" in run_until_waiting(job, patch)
    assert statuses(job) == {"pending": 1, "running": 0, "succeeded": 3, "failed": 0}
    assert job.processed_tracks == Embedding.objects.count() == 3


def test_empty_folder_of_another_library_is_no_reason_to_wait(
    four: Music, run_to_end: RunToEnd, tmp_path: Path
) -> None:
    (four.root / "track0.flac").unlink()
    four.add_library(2, tmp_path / "unused")
    job = run_to_end(services.start_job(JobRequest(["latent"])))
    assert (job.status, job.failed_tracks) == (Status.COMPLETED_WITH_ERRORS, 1)


def test_without_the_only_models_weights_a_job_fails_and_goes_on_when_they_are_there(
    four: Music, run_to_end: RunToEnd, embedder: EmbedderProcess
) -> None:
    embedder.restart(NAVEMBED_LATENT="nobody/has-such-weights")
    job = run_to_end(services.start_job(JobRequest(["latent"])))
    assert (job.status, "fetch_models" in job.message) == (Status.FAILED, True)
    embedder.restart()
    services.resume_job(job)
    assert run_to_end(job).status == Status.COMPLETED


def test_weights_that_changed_since_the_plan_fail_the_job_and_mix_nothing(
    four: Music, run_to_end: RunToEnd, one_track_a_chunk: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_event(1, lambda: EmbeddingSpace.objects.update(fingerprint="of the weights before"), monkeypatch)
    job = run_to_end(services.start_job(JobRequest(["latent"])))
    assert (job.status, Embedding.objects.count()) == (Status.FAILED, 0)
    assert "not in use any more" in job.message
    assert statuses(job)["running"] == 0
