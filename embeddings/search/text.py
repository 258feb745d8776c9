"""Words as vectors: a prompt becomes a vector of a model's space, to be searched like that of a track."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cachetools import LRUCache, cached
from django.conf import settings
from numpy.typing import NDArray

from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import (
    EmbedderUnavailable,
    FingerprintChanged,
    TextUnavailable,
    WeightsMissing,
    WeightsUnusable,
)
from embeddings.models import EmbeddingSpace
from embeddings.search.bridge import bridge_between

MAX_CHARACTERS = 500
MOST_REMEMBERED = 256
LOOK_SECONDS = 0.5  # between two looks for an embedder that is not there yet
PROBE_SECONDS = 2.0  # a status takes milliseconds; an embedder that needs longer is frozen, or away
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Hindi and emoji are written."""
REMOVED = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
"""Unicode's controls, invisible formats, unassigned and private characters, halves of pairs, separators of lines."""

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class TextSupport:
    """Whether a model can be searched by text. ``problem`` says what to do when ``kind`` is None."""

    kind: str | None
    """``native``: words and music share the space. ``bridged``: words come by way of the native model. None: not."""
    problem: str = ""
    recall: float | None = None
    """What a bridge is worth: see ``Origin.recall``."""


def clean_prompt(text: str) -> str:
    """Return a prompt as it is embedded: composed Unicode, no controls, single spaces, at most 500 characters.

    Language, case and punctuation stay. Raises ValueError when nothing is left.
    """
    start = unicodedata.normalize("NFC", text[: 4 * MAX_CHARACTERS])  # of megabytes it would take long
    kept = [" " if unicodedata.category(c) in REMOVED and c not in JOINERS else c for c in start]
    prompt = " ".join("".join(kept).split())[:MAX_CHARACTERS].strip()
    if not prompt.strip(JOINERS + " "):
        raise ValueError("the text is empty, or holds nothing but control characters")
    return prompt


def text_vector(model: str, prompt: str, *, wait_seconds: float = 25.0, patient: bool = False) -> Vector:
    """Return ``prompt`` as a vector of this model's live space: float32 [dimension], unit length.

    For the model that hears and reads it is [text; 0; 0], for others what their bridge makes of it. Raises
    TextUnavailable, with what to run; TextNotReady when the text model, which goes on loading, was not there within
    ``wait_seconds``; EmbedderUnavailable, at once, or when ``patient`` after the same time, in which one that is being
    started comes; ValueError when nothing is left of the prompt.
    """
    if model not in MODEL_KEYS:
        raise TextUnavailable(f"no model is named {model}; there are {', '.join(MODEL_KEYS)}")
    cleaned = clean_prompt(prompt)
    wanted = EmbeddingSpace.objects.filter(model__in={TEXT_MODEL.audio_model, model})
    live = {space.model: space for space in wanted.filter(status=EmbeddingSpace.Status.LIVE)}
    native = live.get(TEXT_MODEL.audio_model)
    if model == TEXT_MODEL.audio_model:
        words = _words(native, cleaned, wait_seconds, patient)
        return np.concatenate([words, np.zeros(2 * len(words), np.float32)])
    bridge = bridge_between(native, live.get(model), model)
    return bridge.apply(_words(native, cleaned, wait_seconds, patient))


def text_support() -> dict[str, TextSupport]:
    """Return by model whether it can be searched by text now; asks an embedder and the database, loads nothing."""
    try:
        problem = str(answering_embedder()[1]["text_problem"])
    except EmbedderUnavailable as error:
        problem = str(error)
    live = {space.model: space for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE)}
    return {model: text_support_in(model, live, problem) for model in MODEL_KEYS}


def text_support_in(model: str, live: Mapping[str, EmbeddingSpace], problem: str) -> TextSupport:
    """``live`` spaces by model; ``problem`` is that of the text model itself, empty when it has none."""
    found = TextSupport("native")
    if model != TEXT_MODEL.audio_model:
        try:
            bridge = bridge_between(live.get(TEXT_MODEL.audio_model), live.get(model), model)
        except TextUnavailable as error:
            return TextSupport(None, str(error))
        found = TextSupport("bridged", recall=bridge.origin.recall)
    return TextSupport(None, problem) if problem else found


def answering_embedder() -> tuple[EmbedderClient, dict[str, Any]]:
    """Return the first embedder that answers, and its status. Raises EmbedderUnavailable when none does."""
    failure = EmbedderUnavailable("no embedder is configured")
    for device in range(len(settings.DEVICES)):
        client = EmbedderClient(device, timeout=PROBE_SECONDS)
        try:
            return client, client.status()
        except EmbedderUnavailable as error:
            failure = error
    raise failure


def _fingerprint_and_prompt(space: EmbeddingSpace | None, prompt: str, *_: object) -> tuple[str, str]:
    return (space.fingerprint if space else "", prompt)


@cached(LRUCache(MOST_REMEMBERED), key=_fingerprint_and_prompt, lock=threading.Lock())
def _words(space: EmbeddingSpace | None, prompt: str, wait_seconds: float, patient: bool) -> Vector:
    """Return the prompt in the space of words and music, float32 [512], made by the weights of ``space``."""
    vector = _ask(prompt, space.recipe["weights"] if space else None, wait_seconds, patient)
    vector.flags.writeable = False
    return vector


def _embedder(deadline: float) -> EmbedderClient:
    """Return an embedder that answers, waiting for one until ``deadline``. Raises EmbedderUnavailable."""
    while True:
        try:
            return answering_embedder()[0]
        except EmbedderUnavailable:
            if time.monotonic() + LOOK_SECONDS >= deadline:
                raise
        time.sleep(LOOK_SECONDS)


def _ask(prompt: str, weights: Sequence[str] | None, wait_seconds: float, patient: bool) -> Vector:
    deadline = time.monotonic() + wait_seconds
    client = _embedder(deadline if patient else 0.0)
    try:
        return client.embed_text(prompt, weights, wait_seconds=max(0.0, deadline - time.monotonic()))
    except (WeightsMissing, WeightsUnusable) as error:
        raise TextUnavailable(str(error)) from error
    except FingerprintChanged as error:
        model = TEXT_MODEL.audio_model
        raise TextUnavailable(
            f"{error}; `manage.py embed_library --models {model}` embeds the library with the new ones, "
            f"or NAVEMBED_{model.upper()} names the former"
        ) from error
