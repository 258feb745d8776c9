"""A job from its start to its end in this process, with the real embedder and the real Lite server."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from batches import chunks, services
from batches.models import BatchJob
from batches.status import library_status
from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding
from embeddings.vectors import from_bytes
from tests.batches.conftest import SUFFIXES, Music, RunToEnd

pytestmark = pytest.mark.usefixtures("milvus", "embedder")

Status = BatchJob.Status


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that may pass is tried again at once."""
    monkeypatch.setattr(chunks, "PAUSES", (timedelta(0), timedelta(0)))


@pytest.fixture
def mixed(music: Music) -> Music:
    """A good file of each format, a damaged one, one that Navidrome misses, one that is not there."""
    for number, suffix in enumerate(SUFFIXES):
        music.add(f"good{number}{suffix}", seed=number)
    music.add_damaged()
    music.add("hidden.flac", missing=True)
    music.add_row("absent.flac")
    return music


def test_every_track_is_embedded_or_failed_with_a_reason(mixed: Music, run_to_end: RunToEnd) -> None:
    job = run_to_end(services.start_job())
    assert job.status == Status.COMPLETED_WITH_ERRORS
    assert (job.total_tracks, job.processed_tracks, job.failed_tracks) == (8, 6, 2)
    failed = job.results.filter(status="failed").values_list("track_id", "error_class", "attempts").distinct()
    assert sorted(failed) == [("absent", "AudioFileMissing", 3), ("damaged", "AudioError", 1)]
    for counts in library_status(ask_milvus=True)["models"].values():
        assert counts == {
            "embedded": 6, "missing": 0, "failed": 2, "orphaned": 0, "indexed": 6, "in_milvus": 6, "consistent": True,
        }  # fmt: skip


def test_vectors_have_unit_length(mixed: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job())
    for row in Embedding.objects.select_related("space"):
        vector = from_bytes(row.vector, encoder_class(row.space.model).stored_dtype, row.space.dimension)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
