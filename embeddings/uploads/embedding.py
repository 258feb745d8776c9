"""Has an upload embedded, between two device batches of a running job, and keeps its vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.embedder.now import embed_now
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.errors import NOT_LOADABLE, EmbedderDied, EmbedderUnavailable, FingerprintChanged, NotEmbedded
from embeddings.spaces.lifecycle import fingerprint_of
from embeddings.uploads import kept
from embeddings.uploads.patience import Patience
from navembed_site.process.slow_calls import patiently

MAX_DEATHS = 3  # of the embedder, while it has the file in hand
T = TypeVar("T")


@dataclass
class Embedded:
    """The models that have a vector of the upload now, with their fingerprints, and why others have none."""

    audio_hash: str = ""
    fingerprints: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def embed(path: Path, name: str, audio_hash: str, patience: Patience, *, sound: bool) -> Embedded:
    """Embed a file with ``NAVEMBED_UPLOAD_MODELS``; audio that has a vector already costs nothing.

    ``sound``: its acoustic fingerprint is kept beside the vector, so that nobody decodes it once more.

    What is not embedded is told in ``problems``: it is no reason to refuse a file, because the next job tries again.
    """
    found = Embedded(audio_hash)
    try:
        wanted = _fingerprints(settings.UPLOAD_MODELS, found.problems, patience)
        done = kept.known(name, wanted, audio_hash)
        if missing := {model: wanted[model] for model in wanted if model not in done}:
            done |= kept.keep(name, wanted, _outcomes(path, missing, found.problems, patience, sound))
        found.fingerprints = {model: wanted[model] for model in wanted if model in done}
    except NotEmbedded as error:
        found.problems.append(str(error))
    except (DatabaseError, InterfaceError) as error:
        found.problems.append(f"the database is away: {error}")
    return found


def _fingerprints(models: Iterable[str], problems: list[str], patience: Patience) -> dict[str, str]:
    """Return the fingerprint of each model whose weights are there."""
    found = {}
    for model in models:
        try:
            ask = partial(patiently, partial(_describe, model), _raise_if_over(patience))
            found[model] = _until_answered(ask, patience)
        except NOT_LOADABLE as error:
            problems.append(str(error))
    return found


def _describe(model: str) -> str:
    failure = EmbedderUnavailable("no embedder is configured")
    for device in range(len(settings.DEVICES)):
        try:
            return fingerprint_of(EmbedderClient(device).describe(model))
        except EmbedderUnavailable as error:
            failure = error
    raise failure


def _outcomes(
    path: Path, wanted: Mapping[str, str], problems: list[str], patience: Patience, sound: bool
) -> list[TrackOutcome]:
    """Return what became of the file with each of the models; those that cannot be loaded are left out."""
    left = dict(wanted)
    outcomes: list[TrackOutcome] = []

    def look(event: TrackOutcome | Step | Heartbeat | End) -> None:
        if isinstance(event, TrackOutcome):
            outcomes.append(event)
            for model in (*event.vectors, *event.failures):
                left.pop(model, None)
        if isinstance(event, TrackOutcome | Step):
            patience.renew()
        elif patience.is_over and not isinstance(event, End):
            raise NotEmbedded("the embedder is busy")

    def ask() -> None:
        if left:
            embed_now(TrackRequest(path.name, str(path), tuple(left), sound=sound), dict(left), look)

    while left:
        try:
            _until_answered(ask, patience)
            break
        except (*NOT_LOADABLE, NotEmbedded) as error:
            problems.append(str(error))
            if left.pop(error.model, None) is None:
                break
    failures = {model: failure for outcome in outcomes for model, failure in outcome.failures.items()}
    problems += dict.fromkeys(failure.message for failure in failures.values())
    return outcomes


def _raise_if_over(patience: Patience) -> Callable[[], None]:
    def raise_if_over() -> None:
        if patience.is_over:
            raise NotEmbedded("the embedder does not answer")

    return raise_if_over


def _until_answered(ask: Callable[[], T], patience: Patience) -> T:
    """Ask until an embedder answers. Raises NotEmbedded when patience is over, or the embedder dies of the file."""
    deaths = 0
    while True:
        try:
            return ask()
        except (EmbedderUnavailable, FingerprintChanged) as error:
            deaths += isinstance(error, EmbedderDied)
            if deaths == MAX_DEATHS:
                raise NotEmbedded(f"the embedder died {deaths} times while it had the file: {error}") from error
            if patience.is_over:
                raise NotEmbedded(str(error)) from error
        patience.pause()
