"""A file that somebody uploads is heard once, as a seed; nothing of it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.errors import AudioError, EmbedderDied, EmbedderUnavailable, FingerprintChanged, OutOfTime
from embeddings.models import EmbeddingSpace
from embeddings.search.query import UPLOAD_ID, Seed

UPLOAD_SECONDS = 120.0  # a caller waits; on a CPU long files take longer with the large models


@dataclass(frozen=True)
class Heard:
    """A seed for each model that could embed the file, and why others could not."""

    seeds: list[Seed]
    warnings: list[str]


def embed_upload(path: Path, models: Sequence[str], *, seconds: float = UPLOAD_SECONDS) -> Heard:
    """Embed a file with those of the models whose vectors search uses; its batches go before a job's next one.

    Raises AudioError when it is no music that we can decode, OutOfTime after ``seconds``, EmbedderUnavailable,
    FingerprintChanged when the weights are not those that the library was embedded with.
    """
    live = EmbeddingSpace.objects.filter(model__in=models, status=EmbeddingSpace.Status.LIVE)
    fingerprints = {space.model: space.fingerprint for space in live}
    if not fingerprints:
        return Heard([], [])
    outcomes = _embed(TrackRequest(UPLOAD_ID, str(path), tuple(fingerprints)), fingerprints, seconds)
    vectors = {model: found.vector for outcome in outcomes for model, found in outcome.vectors.items()}
    failures = {model: failure for outcome in outcomes for model, failure in outcome.failures.items()}
    if not vectors:
        raise AudioError(f"the file cannot be heard: {next(iter(failures.values())).message}")
    warnings = [f"{model} could not embed the file: {failure.message}." for model, failure in failures.items()]
    return Heard([Seed(UPLOAD_ID, embedding=vector) for vector in vectors.values()], warnings)


def _embed(request: TrackRequest, fingerprints: dict[str, str], seconds: float) -> list[TrackOutcome]:
    """Ask the first embedder that answers; one outcome for each turn that its models take."""
    deadline = time.monotonic() + seconds
    failure = EmbedderUnavailable("no embedder is configured")
    for device in range(len(settings.DEVICES)):
        outcomes = []
        try:
            with closing(EmbedderClient(device).embed([request], fingerprints, now=True)) as events:
                for event in events:  # at least a heartbeat each second
                    if isinstance(event, TrackOutcome):
                        outcomes.append(event)
                    if time.monotonic() > deadline:
                        raise OutOfTime(f"the file was not heard within {seconds:.0f} s; try fewer models, or a part")
        except EmbedderDied:
            raise  # perhaps of this file: another one shall not follow
        except EmbedderUnavailable as error:
            failure = error
        except FingerprintChanged as error:
            raise FingerprintChanged(
                "the weights are not those that the library was embedded with; embed it anew first"
            ) from error
        else:
            return outcomes
    raise failure
