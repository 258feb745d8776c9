"""One odd row of Navidrome's database, or one odd file name, costs that track at most."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from batches import services
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.dry_run import preview
from embeddings.models import Embedding, Track
from embeddings.spaces.vectors import from_bytes
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import make_embedding

pytestmark = [pytest.mark.django_db, pytest.mark.database, pytest.mark.usefixtures("milvus", "embedder", "no_pauses")]
Status = BatchJob.Status


def run(run_to_end: RunToEnd) -> BatchJob:
    return run_to_end(services.start_job(JobRequest(["latent"])))


@pytest.mark.parametrize("odd", ["a\nb", "a\u200fb", "x" * 300, "a\0b"])
def test_an_odd_id_fails_alone_and_with_its_reason(four: Music, run_to_end: RunToEnd, odd: str) -> None:
    four.add("odd.flac", id=odd)
    job = run(run_to_end)
    assert (job.status, job.failed_tracks) == (Status.COMPLETED_WITH_ERRORS, 1)
    assert "cannot be a track's id" in job.results.get(status="failed").error_message
    assert Embedding.objects.filter(index_state="indexed").count() == 4
    assert run(run_to_end).status == Status.COMPLETED


def test_a_vector_of_an_odd_id_from_before_does_not_fail_the_next_job(four: Music, run_to_end: RunToEnd) -> None:
    assert run(run_to_end).status == Status.COMPLETED
    space = Embedding.objects.first().space  # type: ignore[union-attr]
    track = Track.objects.create(id="a\nb", library_id=1, path="/x", duration=1, size=1, playable=False, scan=0)
    for state in ("pending", "deleting"):
        Embedding.objects.filter(track_id=track.pk).delete()
        make_embedding(space, track, index_state=state)
        four.add(f"new{state}.flac", seed=2)
        assert run(run_to_end).status == Status.COMPLETED


def test_a_job_opens_the_very_file_that_has_the_name(four: Music, run_to_end: RunToEnd) -> None:
    odd, other = os.fsdecode(b"B\xf6se.flac"), "B?se.flac"
    (four.root / odd).write_bytes(four.pool[1].read_bytes())
    (four.root / other).write_bytes(four.pool[2].read_bytes())
    for track_id, name in (("odd", odd), ("other", other)):
        four.add_row("x", id=track_id, path=os.fsencode(name), size=(four.root / name).stat().st_size)
    four.add("same.mp3", seed=1)
    assert run(run_to_end).status == Status.COMPLETED
    vectors = {e.track_id: from_bytes(e.vector, "float32", 576) for e in Embedding.objects.all()}
    np.testing.assert_allclose(vectors["odd"], vectors["same"], atol=1e-6)
    assert vectors["odd"] @ vectors["other"] < 0.9999


def test_a_missing_file_whose_name_is_no_text_fails_with_its_reason(four: Music, run_to_end: RunToEnd) -> None:
    four.add_row("x", id="odd", path=b"caf\xe9.flac")
    job = run(run_to_end)
    assert job.failed_tracks == 1
    assert "no such file" in job.results.get(status="failed").error_message


@pytest.mark.parametrize("duration", [float("inf"), "NaN", 1e300])
def test_a_length_that_is_none_does_not_break_a_dry_run(four: Music, duration: object) -> None:
    four.add("odd.flac", duration=duration)
    [model] = preview(JobRequest(["latent"])).models
    assert model.audio_seconds == 8


def test_a_pipe_fails_at_once(four: Music, run_to_end: RunToEnd) -> None:
    os.mkfifo(four.root / "fifo.wav")
    (four.root / "zero.wav").symlink_to("/dev/zero")
    for name in ("fifo.wav", "zero.wav"):
        four.add_row(name, size=0)
    job = run(run_to_end)
    assert {row.error_message for row in job.results.filter(status="failed")} == {"is not a regular file"}
    assert Path(four.root / "fifo.wav").is_fifo()
