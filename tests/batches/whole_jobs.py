"""What tests of whole jobs share: a library of four tracks, and acting at a moment of the work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from batches import runner
from batches.models import BatchJob, TrackResult
from embeddings.embedder.client import EmbedderClient, Heartbeat
from embeddings.models import Embedding
from embeddings.work import TrackRequest


def at_event(number: int, act: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``act`` happen when the embedder has told of its step or finished track of this number."""
    embed, told = EmbedderClient.embed, itertools.count(1)

    def acting(client: EmbedderClient, requests: Sequence[TrackRequest], *rest: Any) -> Iterator[object]:
        for event in embed(client, requests, *rest):
            if not isinstance(event, Heartbeat) and next(told) == number:
                act()
            yield event

    monkeypatch.setattr(EmbedderClient, "embed", acting)
    monkeypatch.setattr(runner, "LOOK_SECONDS", 0.0)


def statuses(job: BatchJob) -> dict[str, int]:
    return {status: job.results.filter(status=status).count() for status in TrackResult.Status.values}


def computed() -> dict[int, object]:
    return dict(Embedding.objects.values_list("pk", "updated_at"))
