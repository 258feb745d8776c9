"""What the models are and can do now, told at once, also when the embedder is away."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError

from embeddings.encoders.registry import ENCODERS, TEXT_MODEL
from embeddings.errors import EmbedderUnavailable
from embeddings.models import EmbeddingSpace
from embeddings.search.text import TextSupport, answering_embedder, text_support_in
from navembed_site.database.time_limit import time_limit

DATABASE_SECONDS = 3.0
DATABASE_AWAY = "the database does not answer"


def model_overview() -> list[dict[str, Any]]:
    """Return a row for each model: what it is, whether texts can search it, and its state in the first embedder.

    Whatever is away is said in ``problem``.
    """
    status = _embedder_status()
    problem = str(status["text_problem"])
    spaces = _live_spaces()
    rows = []
    for encoder in ENCODERS:
        space = spaces.get(encoder.key) if spaces is not None else None
        text = _text_support(encoder.key, spaces, problem)
        state = status["models"].get(encoder.key)
        rows.append(
            {
                "name": encoder.key,
                "dimension": space.dimension if space else encoder.published_dimension,
                "status": "available" if text.kind else "unavailable",
                "description": encoder.description,
                "text": text.kind,
                "problem": text.problem or None,
                "embedded": None if spaces is None else space is not None,
                "loaded": state["loaded"] if state else None,
                "device": state["device"] if state else None,
            }
        )
    return rows


def health() -> dict[str, Any]:
    """Return what ``GET /health`` answers: the web server is well, whatever else is not."""
    status = _embedder_status()
    text = status["models"].get(TEXT_MODEL.key)
    return {
        "status": "healthy",
        "device": text["device"] if text else settings.DEVICES[0],
        "checkpoint_dir": str(settings.CHECKPOINT_DIR),
        "use_stubs": False,
        "embedder": status["text_problem"] if not status["models"] else "running",
        "text_loaded": bool(text and text["loaded"]),
    }


def _embedder_status() -> dict[str, Any]:
    """Return the status of the first embedder that answers, its models by key; without any, the reason as problem."""
    try:
        _, status = answering_embedder()
    except EmbedderUnavailable as error:
        return {"models": {}, "text_problem": str(error)}
    return status | {"models": {state["key"]: state for state in status["models"]}}


def _live_spaces() -> dict[str, EmbeddingSpace] | None:
    """Return the live spaces by model; None when the database does not answer."""
    try:
        with time_limit(DATABASE_SECONDS):
            return {space.model: space for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE)}
    except DatabaseError:
        return None


def _text_support(model: str, spaces: dict[str, EmbeddingSpace] | None, problem: str) -> TextSupport:
    if spaces is None and model != TEXT_MODEL.audio_model:
        return TextSupport(None, DATABASE_AWAY)
    return text_support_in(model, spaces or {}, problem)
