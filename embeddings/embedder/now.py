"""Embedding a file for which somebody waits: its batches go before a job's next one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing

from django.conf import settings

from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.errors import EmbedderDied, EmbedderUnavailable

Look = Callable[[TrackOutcome | Step | Heartbeat | End], None]
"""Is called with what happens, at least each second, and stops the work by raising."""


def embed_now(request: TrackRequest, fingerprints: Mapping[str, str], look: Look) -> list[TrackOutcome]:
    """Ask the first embedder that answers; returns one outcome for each turn that the models take.

    Raises what ``EmbedderClient.embed`` does.
    """
    failure = EmbedderUnavailable("no embedder is configured")
    for device in range(len(settings.DEVICES)):
        outcomes = []
        try:
            with closing(EmbedderClient(device).embed([request], fingerprints, now=True)) as events:
                for event in events:
                    if isinstance(event, TrackOutcome):
                        outcomes.append(event)
                    look(event)
        except EmbedderDied:
            raise  # perhaps of this file: another one shall not follow
        except EmbedderUnavailable as error:
            failure = error
        else:
            return outcomes
    raise failure
