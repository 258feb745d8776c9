"""The disk of spaces that are not kept any longer, given back step by step."""

from __future__ import annotations

import signal
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from batches import housekeeping, services, tasks
from batches.housekeeping import give_back
from batches.requests import JobRequest
from embeddings.index.store import VectorStore
from embeddings.models import Embedding, EmbeddingSpace
from tests.index.conftest import unit
from tests.milvus import LiteServer
from tests.spaces.conftest import DIMENSION, embed, indexed, make_space, statuses

ENOUGH = 60.0
pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def dropped(db: None, milvus: LiteServer) -> EmbeddingSpace:
    """A space of 40 vectors, in Milvus too, that has just been dropped."""
    space = indexed(make_space("old", vectors=40))
    EmbeddingSpace.objects.update(status="dropping")
    return space


def collections() -> list[str]:
    return VectorStore().collections()


def test_rows_collection_and_space_go_and_others_stay(dropped: EmbeddingSpace) -> None:
    live = indexed(make_space("new", vectors=3))
    assert give_back(ENOUGH) == 40
    assert (list(EmbeddingSpace.objects.all()), Embedding.objects.count()) == ([live], 3)
    assert collections() == [live.collection]
    assert give_back(ENOUGH) == 0


def test_rows_go_in_slices_and_the_next_call_goes_on(dropped: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLICE_BYTES", 10 * 4 * DIMENSION)
    ticks = iter([0.0, *([0.5] * 4), *([99.0] * 4)])  # the time is over after the second slice
    monkeypatch.setattr(housekeeping.time, "monotonic", lambda: next(ticks, 99.0))
    monkeypatch.setattr(housekeeping.time, "sleep", lambda _: None)
    first = give_back(1.0)
    monkeypatch.undo()
    assert 10 <= first < 40
    assert (statuses(), dropped.collection in collections()) == (["dropping"], True)
    assert give_back(ENOUGH) == 40 - first
    assert statuses() == []


def test_milvus_that_is_away_is_asked_again_later(dropped: EmbeddingSpace, milvus: LiteServer) -> None:
    milvus.end(signal.SIGKILL)
    assert give_back(ENOUGH) == 40
    assert statuses() == ["dropping"]
    milvus.start()
    assert give_back(ENOUGH) == 0
    assert (statuses(), collections()) == ([], [])


def test_job_survives_the_space_it_worked_in(dropped: EmbeddingSpace) -> None:
    job = services.start_job(JobRequest(["muq"]))
    job.progress.update(space=dropped, total=40, succeeded=40)
    give_back(ENOUGH)
    progress = job.progress.get()
    assert (progress.space, progress.succeeded) == (None, 40)


def test_kept_space_goes_when_its_days_are_over(milvus: LiteServer, settings: Any) -> None:
    settings.KEEP_SPACES_DAYS = 1
    make_space("old", "kept", vectors=2)
    EmbeddingSpace.objects.update(kept_at=timezone.now() - timedelta(hours=23))
    assert give_back(ENOUGH) == 0
    assert statuses() == ["kept"]
    EmbeddingSpace.objects.update(kept_at=timezone.now() - timedelta(hours=25))
    assert give_back(ENOUGH) == 2
    assert statuses() == []


def test_nothing_to_do_costs_next_to_nothing(db: None) -> None:
    make_space("new", vectors=3)
    with CaptureQueriesContext(connection) as captured:
        assert tasks.give_back() == 0
    assert len(captured) <= 2


def test_somebody_else_can_write_between_two_slices(dropped: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLICE_BYTES", 10 * 4 * DIMENSION)
    live = make_space("new")
    written: list[bool] = []

    def write(_: float) -> None:
        embed(live, unit(1, DIMENSION), [f"w{len(written)}"])
        written.append(connection.in_atomic_block)

    monkeypatch.setattr(housekeeping.time, "sleep", write)
    give_back(ENOUGH)
    assert len(written) >= 4
    assert live.embeddings.count() == len(written)
