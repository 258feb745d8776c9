"""A file that somebody uploads is heard once, as a seed; nothing of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embeddings.embedder.now import embed_now
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.errors import AudioError, FingerprintChanged, OutOfTime
from embeddings.models import EmbeddingSpace
from embeddings.search.query import UPLOAD_ID, Seed
from navembed_site.process.slow_calls import within

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
    late = OutOfTime(f"the file was not heard within {seconds:.0f} s; try fewer models, or a part")
    raise_if_late = within(seconds, late)
    try:
        return embed_now(request, fingerprints, lambda event: raise_if_late())
    except FingerprintChanged as error:
        raise FingerprintChanged(
            "the weights are not those that the library was embedded with; embed it anew first"
        ) from error
