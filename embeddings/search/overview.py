"""What the models are and can do now, told at once whoever else is away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import EmbedderUnavailable
from embeddings.search.text import text_support
from embeddings.spaces import live_space


def model_overview() -> list[dict[str, Any]]:
    """Return a row for each model."""
    support = text_support()
    rows = []
    for encoder in ENCODERS:
        space, text = live_space(encoder.key), support[encoder.key]
        rows.append(
            {
                "name": encoder.key,
                "dimension": space.dimension if space else encoder.published_dimension,
                "status": "available" if text.kind else "unavailable",
                "description": encoder.description,
                "text": text.kind,
                "problem": text.problem or None,
            }
        )
    return rows


def health(checkpoints: Path) -> dict[str, Any]:
    """Return what ``GET /health`` answers."""
    try:
        status = EmbedderClient(timeout=2).status()
        device, embedder = status["models"][0]["device"], "running"
    except EmbedderUnavailable as error:
        device, embedder = settings.DEVICES[0], str(error)
    return {
        "status": "healthy",
        "device": device,
        "checkpoint_dir": str(checkpoints),
        "use_stubs": False,
        "embedder": embedder,
    }
