"""Claiming, committing and counting: what a chunk holds, and what is left when something goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from batches import services
from batches.engine import chunks
from batches.engine.chunks import Chunk
from batches.engine.leases import DeviceLease
from batches.engine.pace import estimated_seconds
from batches.models import BatchJob, TrackResult
from embeddings.embedder.work import TrackOutcome
from embeddings.models import Embedding, Track
from embeddings.spaces.vectors import from_bytes
from tests.batches.rows import (
    DIMENSION,
    SECONDS,
    VECTOR,
    device,
    failure,
    make_embedding,
    make_job,
    make_track,
    make_tracks,
    progress_of,
    success,
    take_device,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ALL = ("muq", "mert", "latent")


def claim(job: BatchJob, lease: DeviceLease) -> Chunk:
    chunk = chunks.claim(job, lease)
    assert chunk
    return chunk


def ids(chunk: Chunk | None) -> list[str]:
    return [claimed.track.id for claimed in chunk.tracks] if chunk else []


def be_ready(job: BatchJob) -> None:
    """End the pause of every result."""
    job.results.update(not_before=timezone.now() - timedelta(seconds=1))


def attempt(job: BatchJob, lease: DeviceLease, *outcomes: TrackOutcome, died: bool = False) -> None:
    """Claim a chunk and commit it with these outcomes."""
    be_ready(job)
    chunk = claim(job, lease)
    chunks.commit(job, lease, chunk, outcomes, 1.0)
    if died:
        chunks.blame(job, lease, chunk, "killed the embedder")
    chunks.release(chunk, lease)
    job.refresh_from_db()


def test_note_of_a_file_stays_with_its_result(lease: DeviceLease) -> None:
    tracks = make_tracks(1)
    job, outcome = make_job(tracks), success(tracks[0])
    assert outcome.audio
    attempt(job, lease, replace(outcome, audio=replace(outcome.audio, note="12 of 240 s could not be decoded")))
    assert job.results.get().note == "12 of 240 s could not be decoded"


# Claiming


def test_what_comes_back_of_a_model_that_was_left_out_leaves_the_job(lease: DeviceLease) -> None:
    tracks = make_tracks(2)
    job = make_job(tracks, ["muq", "latent"])
    claim(job, take_device(1))
    services.leave_out(job, "latent", "its weights are damaged")
    chunks.release_abandoned(job, take_device(1))  # its first holder froze
    chunk = claim(job, lease)
    assert {row.model for row in chunk.rows} == {"muq"}
    chunks.commit(job, lease, chunk, [success(track) for track in tracks], 1.0)
    job.refresh_from_db()
    assert (job.total_tracks, job.processed_tracks, progress_of(job, "latent").total) == (2, 2, 0)
    assert not chunks.is_left(job)


@pytest.mark.django_db(transaction=True)
def test_what_is_committed_while_a_model_is_left_out_counts() -> None:
    tracks = make_tracks(2)
    job, lease = make_job(tracks, ["mert", "muq"]), take_device()
    chunk = claim(job, lease)

    def commit() -> None:
        chunks.commit(job, lease, chunk, [success(track) for track in tracks], 1.0)
        connection.close()

    beside = threading.Thread(target=commit)

    def meanwhile(run: Any, sql: str, *arguments: Any) -> Any:
        found = run(sql, *arguments)
        if "SUM(" in sql and beside.ident is None:  # a model has been counted
            beside.start()
            beside.join(0.5)
        return found

    with connection.execute_wrapper(meanwhile):
        services.leave_out(job, "mert", "there are no weights")
    beside.join()
    job.refresh_from_db()
    assert progress_of(job).succeeded == 2


def test_chunk_is_cut_by_the_measured_rate(lease: DeviceLease) -> None:
    job = make_job(make_tracks(8))
    lease.device.rates = {"muq": SECONDS / 4}  # four seconds of work a track; a chunk holds ten
    assert ids(claim(job, lease)) == ["t000", "t001"]
    assert ids(claim(job, lease)) == ["t002", "t003"]


def test_chunk_is_cut_by_the_models_cost_until_a_rate_is_known(lease: DeviceLease) -> None:
    job = make_job([make_track(f"t{number}", duration=240) for number in range(4)], ["latent"])
    assert ids(claim(job, lease)) == ["t0"]  # 20 teraflop each
    assert estimated_seconds(make_track("x", duration=240), device(), "latent") == pytest.approx(20, 0.1)


def test_track_longer_than_a_chunk_is_claimed_alone(lease: DeviceLease) -> None:
    job = make_job([make_track("a", duration=10_000), make_track("b")])
    assert ids(claim(job, lease)) == ["a"]


def test_track_is_claimed_with_all_its_models_once(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1), ALL)
    [claimed] = claim(job, lease).tracks
    assert set(claimed.results) == set(ALL)
    assert set(job.results.values_list("status", "attempts", "device")) == {("running", 1, device().pk)}
    assert chunks.claim(job, lease) is None


def test_track_cut_off_by_the_row_limit_waits_for_the_next_chunk(
    lease: DeviceLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "MAX_ROWS", 4)
    job = make_job(make_tracks(2), ALL)
    assert [set(claimed.results) for claimed in claim(job, lease).tracks] == [set(ALL)]


def test_only_this_jobs_ready_results_are_claimed(lease: DeviceLease) -> None:
    job = make_job(make_tracks(2))
    job.results.filter(track="t000").update(not_before=timezone.now() + timedelta(minutes=1))
    assert ids(claim(job, lease)) == ["t001"]


def test_very_long_track_keeps_its_rows_under_a_name_that_its_file_decides(lease: DeviceLease) -> None:
    job = make_job([make_track("short"), make_track("zlong", duration=100_000)])
    short, long = claim(job, lease), claim(job, lease)
    assert chunks.spool_name(short.tracks[0], short.spaces) == ""
    first = chunks.spool_name(long.tracks[0], long.spaces)
    long.tracks[0].track.mtime = "later"
    assert len(first) == 32
    assert first != chunks.spool_name(long.tracks[0], long.spaces)


# Committing


def test_commit_writes_vectors_and_results(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track], ("muq", "mert"))
    attempt(job, lease, success(track, "muq", "mert", seconds=0.5))
    for row in Embedding.objects.select_related("space"):
        stored = from_bytes(row.vector, "float16" if row.space.model == "mert" else "float32", DIMENSION)
        assert np.array_equal(stored, VECTOR)
        assert (row.size, row.mtime, row.index_state) == (track.size, track.mtime, "pending")
    assert set(job.results.values_list("status", "device", "seconds", "precision", "audio_seconds")) == {
        ("succeeded", None, 0.5, "bfloat16", SECONDS)
    }


def test_vector_of_a_changed_file_is_replaced_and_indexed_again(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    space = progress_of(job).space
    assert space
    old = make_embedding(space, track, mtime="old", index_state="indexed")
    attempt(job, lease, success(track))
    new = Embedding.objects.get()
    assert (new.pk, new.mtime, new.index_state) == (old.pk, track.mtime, "pending")
    assert new.updated_at > old.updated_at


@contextmanager
def failing_at(words: str) -> Iterator[None]:
    """Fails each statement that begins with ``words``."""

    def execute(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if sql.startswith(words):
            raise OperationalError("disk I/O error")
        return run(sql, *arguments)

    with connection.execute_wrapper(execute):
        yield


@pytest.mark.parametrize(
    "words",
    ['INSERT INTO "batches_trackresult"', 'UPDATE "batches_modelprogress"', 'UPDATE "batches_batchjob"'],
)
def test_commit_that_fails_half_way_leaves_nothing(lease: DeviceLease, words: str) -> None:
    good, bad = make_tracks(2)
    job = make_job([good, bad])
    chunk = claim(job, lease)
    with failing_at(words), pytest.raises(OperationalError):
        chunks.commit(job, lease, chunk, [success(good), failure(bad)], 1.0)
    job.refresh_from_db()
    assert not Embedding.objects.exists()
    assert set(job.results.values_list("status", flat=True)) == {"running"}
    assert (job.processed_tracks, progress_of(job).succeeded, progress_of(job).rate) == (0, 0, None)


def test_rows_without_an_outcome_go_back_without_a_counted_attempt(lease: DeviceLease) -> None:
    done, left = make_tracks(2)
    job = make_job([done, left])
    attempt(job, lease, success(done))
    row = job.results.get(track=left)
    assert (row.status, row.attempts, row.deaths, row.device) == ("pending", 0, 0, None)


def test_outcomes_of_models_that_took_turns_are_put_together(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track], ("muq", "mert"))
    attempt(job, lease, success(track, "muq"), failure(track, "mert"))
    assert dict(job.results.values_list("model", "status")) == {"muq": "succeeded", "mert": "failed"}
    assert (job.processed_tracks, job.failed_tracks) == (0, 1)


# Failing


def test_permanent_failure_is_not_tried_again(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    attempt(job, lease, failure(track))
    row = job.results.get()
    assert (row.status, row.error_class, row.error_message) == ("failed", "AudioError", "it is damaged")
    assert not chunks.is_left(job)


def test_passing_failure_is_tried_twice_more_with_pauses(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    for pause in chunks.PAUSES:
        before = timezone.now()
        attempt(job, lease, failure(track, permanent=False))
        row = job.results.get()
        assert row.status == "pending"
        assert row.not_before
        assert row.not_before >= before + pause
        assert chunks.claim(job, lease) is None
    attempt(job, lease, failure(track, permanent=False))
    assert job.results.get().status == "failed"


def test_success_after_a_passing_failure_forgets_the_error(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    attempt(job, lease, failure(track, permanent=False))
    attempt(job, lease, success(track))
    row = job.results.get()
    assert (row.status, row.error_class, row.error_message, row.attempts) == ("succeeded", "", "", 2)


def test_chunk_in_which_the_embedder_died_is_halved(lease: DeviceLease) -> None:
    job = make_job(make_tracks(5))
    attempt(job, lease, died=True)
    assert [ids(claim(job, lease)) for _ in range(3)] == [["t000", "t001"], ["t002", "t003"], ["t004"]]


def test_suspects_go_apart_from_the_others(lease: DeviceLease, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(make_tracks(5))
    monkeypatch.setattr(chunks, "MAX_ROWS", 3)
    attempt(job, lease, died=True)
    monkeypatch.undo()
    attempt(job, lease)
    job.results.filter(track__in=["t000", "t001"]).update(chunk_limit=8)
    assert ids(claim(job, lease)) == ["t000", "t001"]


def test_commit_whose_answer_was_lost_may_be_repeated(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    chunk = claim(job, lease)
    for _ in range(2):
        chunks.commit(job, lease, chunk, [success(track)], 1.0)
    assert (progress_of(job).succeeded, BatchJob.objects.get().processed_tracks) == (1, 1)


@pytest.mark.parametrize("write", ["release", "blame", "commit"])
def test_what_is_repeated_leaves_alone_what_another_device_has_claimed_since(lease: DeviceLease, write: str) -> None:
    [track] = make_tracks(1)
    job = make_job([track])
    chunk = claim(job, lease)
    writes: dict[str, Callable[[], object]] = {
        "release": lambda: chunks.release(chunk, lease),
        "blame": lambda: chunks.blame(job, lease, chunk, "killed the embedder"),
        "commit": lambda: chunks.commit(job, lease, chunk, [failure(track, permanent=False)], 1.0),
    }
    writes[write]()
    be_ready(job)
    claim(job, take_device(1))
    before = job.results.values().get()
    writes[write]()  # the database's first answer was lost
    assert job.results.values().get() == before


def test_what_came_before_the_embedder_died_counts(lease: DeviceLease) -> None:
    first, second = make_tracks(2)
    job = make_job([first, second])
    attempt(job, lease, success(first), died=True)
    assert dict(job.results.values_list("track_id", "status")) == {"t000": "succeeded", "t001": "pending"}
    assert job.processed_tracks == 1


def test_track_that_takes_the_embedder_down_each_time_is_isolated_and_failed_and_the_others_succeed(
    lease: DeviceLease,
) -> None:
    tracks = make_tracks(8)
    job = make_job(tracks)
    deaths = 0
    while chunks.is_left(job):
        chunk = claim(job, lease)
        if "t005" in ids(chunk):
            deaths += 1
            chunks.blame(job, lease, chunk, "killed the embedder: out of memory")
        else:
            chunks.commit(job, lease, chunk, [success(claimed.track) for claimed in chunk.tracks], 1.0)
    job.refresh_from_db()
    row = job.results.get(track="t005")
    assert (row.status, row.error_message) == ("failed", "killed the embedder: out of memory (4 times)")
    assert (job.processed_tracks, job.failed_tracks, deaths) == (7, 1, 4)


def test_track_that_was_alone_is_failed_the_third_time(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1))
    for _ in range(3):
        assert job.results.get().status == "pending"
        attempt(job, lease, died=True)
    assert job.results.get().status == "failed"


# Counting


def test_track_counts_when_its_last_model_is_done(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track], ("muq", "mert"))
    attempt(job, lease, success(track, "muq"), failure(track, "mert", permanent=False))
    assert (job.processed_tracks, job.failed_tracks) == (0, 0)
    attempt(job, lease, success(track, "mert"))
    assert (job.processed_tracks, job.failed_tracks) == (1, 0)


def test_track_that_failed_for_one_model_counts_as_failed_once(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track], ALL)
    attempt(job, lease, failure(track, "muq"), failure(track, "mert", permanent=False))
    attempt(job, lease, failure(track, "mert"), success(track, "latent"))
    assert (job.processed_tracks, job.failed_tracks) == (0, 1)
    counted = job.progress.order_by("model").values_list("model", "succeeded", "failed")
    assert list(counted) == [("latent", 1, 0), ("mert", 0, 1), ("muq", 0, 1)]


def test_rate_is_audio_per_second_of_work_shared_by_what_models_cost(lease: DeviceLease) -> None:
    [track] = make_tracks(1)
    job = make_job([track], ("muq", "mert"))
    chunk = claim(job, lease)
    outcomes = [success(track, "muq", seconds=1.0), success(track, "mert", seconds=3.0)]
    chunks.commit(job, lease, chunk, outcomes, 8.0)  # as much again for decoding
    assert progress_of(job, "muq").rate == pytest.approx(SECONDS / 2)
    assert progress_of(job, "mert").rate == pytest.approx(SECONDS / 6)


def test_rate_follows_slowly_and_interrupted_work_leaves_it_alone(lease: DeviceLease) -> None:
    first, second, third = make_tracks(3)
    job = make_job([first, second, third])
    lease.device.rates = {"muq": 0.2}  # ten seconds a track: one a chunk
    chunks.commit(job, lease, claim(job, lease), [success(first)], 1.0)
    before = device().rates["muq"]
    assert before == pytest.approx(0.7 * 0.2 + 0.3 * SECONDS)
    chunks.commit(job, lease, claim(job, lease), [success(second)], 0.0)
    assert device().rates == {"muq": before}


# Queries


def big_chunk(lease: DeviceLease, count: int) -> tuple[BatchJob, list[Track]]:
    tracks = make_tracks(count)
    job = make_job(tracks, ALL)
    lease.device.rates = dict.fromkeys(ALL, 1000)
    return job, tracks


def test_queries_of_a_chunk_do_not_grow_with_its_tracks(lease: DeviceLease, django_assert_max_num_queries: Any) -> None:
    job, tracks = big_chunk(lease, 30)
    with django_assert_max_num_queries(7):
        chunk = claim(job, lease)
    assert len(chunk.rows) == 90
    with django_assert_max_num_queries(17):
        chunks.commit(job, lease, chunk, [success(track, *ALL) for track in tracks], 1.0)
    assert TrackResult.objects.filter(status="succeeded").count() == 90
