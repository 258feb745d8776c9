"""Files that cannot be embedded: known, left alone until they change, tried again when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from batches import services
from batches.engine.chunks import claim, commit
from batches.engine.leases import Lease
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.dry_run import preview
from embeddings.embedder.work import Failure, TrackOutcome
from embeddings.library.bad_files import bad_files
from embeddings.models import BadFile, Track
from tests.audio_files import DAMAGED
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import failure, make_job, make_tracks, success

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = BatchJob.Status


def start(**options: object) -> BatchJob:
    return services.start_job(JobRequest(["latent"], **options))  # type: ignore[arg-type]


def known() -> list[tuple[str, str]]:
    return list(bad_files().values_list("track_id", "model"))


def commit_outcomes(job: BatchJob, lease: Lease, outcomes: Iterable[TrackOutcome]) -> None:
    chunk = claim(job, lease)
    assert chunk
    commit(job, lease, chunk, list(outcomes), 1.0)


# Through the real path


@pytest.fixture
def one_bad(four: Music, run_to_end: RunToEnd, milvus: object, embedder: object, no_pauses: None) -> Music:
    """Four tracks and a damaged file; a job has tried them all."""
    four.add_damaged()
    assert run_to_end(start()).status == Status.COMPLETED_WITH_ERRORS
    return four


@pytest.mark.parametrize("clear", [False, True])
def test_the_next_job_leaves_it_alone_and_is_completed(one_bad: Music, run_to_end: RunToEnd, clear: bool) -> None:
    job = run_to_end(start(clear_existing=clear))
    assert (job.status, job.failed_tracks) == (Status.COMPLETED, 0)
    assert job.progress.get().skipped["bad file"] == 1


def test_it_is_tried_again_once_it_has_changed(one_bad: Music, run_to_end: RunToEnd) -> None:
    (one_bad.root / "damaged.mp3").write_bytes(one_bad.pool[1].read_bytes())
    one_bad.change("damaged", updated_at="2031-01-01")
    job = run_to_end(start())
    assert (job.status, job.processed_tracks, BadFile.objects.count()) == (Status.COMPLETED, 1, 0)


def test_it_is_tried_again_when_somebody_asks(one_bad: Music, run_to_end: RunToEnd) -> None:
    job = run_to_end(start(retry_bad_files=True))
    assert (job.status, job.failed_tracks) == (Status.COMPLETED_WITH_ERRORS, 1)


def test_it_stays_known_under_a_new_id(one_bad: Music, run_to_end: RunToEnd) -> None:
    one_bad.change("damaged", id="other")
    job = run_to_end(start())
    assert (job.status, known()) == (Status.COMPLETED, [("other", "latent")])


def test_it_is_known_to_the_dry_run(one_bad: Music) -> None:
    assert preview(JobRequest(["latent"])).models[0].tracks["bad file"] == 1
    assert preview(JobRequest(["latent"], retry_bad_files=True)).models[0].tracks["failed before"] == 1


def test_every_kind_of_damage_is_known(one_bad: Music, run_to_end: RunToEnd) -> None:
    refused = [damage for damage in DAMAGED.values() if damage.refused]
    for number, damage in enumerate(refused):
        damage.write(one_bad.root / f"bad{number}{damage.suffix}")
        one_bad.add_row(f"bad{number}{damage.suffix}")
    assert run_to_end(start()).failed_tracks == len(refused)
    assert run_to_end(start()).status == Status.COMPLETED


# What is remembered


def test_a_file_that_was_merely_away_is_not_bad(lease: Lease) -> None:
    (track,) = make_tracks(1)
    job = make_job([track])
    job.results.update(attempts=2)
    away = Failure("AudioFileMissing", "it is not there", "decode", permanent=False, traceback="")
    commit_outcomes(job, lease, [TrackOutcome(track.id, failures={"muq": away})])
    assert (job.results.get().status, known()) == ("failed", [])


def test_a_decoder_that_died_of_it_each_time_is_enough(lease: Lease) -> None:
    (track,) = make_tracks(1)
    job = make_job([track])
    job.results.update(attempts=2)
    commit_outcomes(job, lease, [failure(track, permanent=False)])
    assert known() == [(track.id, "muq")]


@pytest.mark.parametrize(("stage", "tried_again"), [("decode", False), ("encode", True)])
def test_other_weights_try_what_can_be_decoded(lease: Lease, stage: str, tried_again: bool) -> None:
    (track,) = make_tracks(1)
    job = make_job([track])
    told = Failure("EncodeError", "no vector", stage, permanent=True, traceback="")
    commit_outcomes(job, lease, [TrackOutcome(track.id, failures={"muq": told})])
    row = BadFile.objects.get()
    assert (row.fingerprint == "") is not tried_again


def test_a_vector_makes_it_good_again(lease: Lease) -> None:
    (track,) = make_tracks(1)
    BadFile.objects.create(track=track, model="muq", size=track.size, mtime=track.mtime)
    BadFile.objects.create(track=track, model="mert", size=track.size, mtime=track.mtime)
    commit_outcomes(make_job([track]), lease, [success(track)])
    assert known() == [(track.id, "mert")]


def test_a_changed_file_is_not_called_bad() -> None:
    (track,) = make_tracks(1)
    BadFile.objects.create(track=track, model="muq", size=track.size, mtime=track.mtime)
    Track.objects.update(mtime="new")
    assert known() == []
