"""What tests of whole jobs share: a library of four tracks, and acting at a moment of the work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from batches.engine import pulse, runner
from batches.engine.in_hand import ChunkInHand, Event
from batches.models import BatchJob, TrackResult
from embeddings.embedder.client import Heartbeat
from embeddings.models import Embedding
from tests.batches.rows import work_on


def at_event(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls ``act`` when the worker reads the embedder's step, finished track or end of this number."""
    events, told = ChunkInHand.events, itertools.count(1)

    def acting(work: ChunkInHand) -> Iterator[Event]:
        for event in events(work):
            if not isinstance(event, Heartbeat) and next(told) == number:
                act()
            yield event

    monkeypatch.setattr(ChunkInHand, "events", acting)
    monkeypatch.setattr(pulse, "LOOK_SECONDS", 0.0)


def statuses(job: BatchJob) -> dict[str, int]:
    return {status: job.results.filter(status=status).count() for status in TrackResult.Status.values}


def computed() -> dict[int, object]:
    return dict(Embedding.objects.values_list("pk", "updated_at"))


def run_until_waiting(job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a turn that ends when the job waits; returns what for."""
    with monkeypatch.context() as patch:
        patch.setattr(runner._TimeSlice, "_sleep", end_turn)
        assert work_on() == "goes on"
    job.refresh_from_db()
    assert job.status == BatchJob.Status.WAITING
    return job.message


def end_turn(turn: runner._TimeSlice, *_: object) -> None:
    """What a turn does here instead of sleeping."""
    turn.deadline = 0.0
