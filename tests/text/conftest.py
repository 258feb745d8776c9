"""Libraries in which one model's embeddings follow from the other's, and the real embedder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from django.conf import LazySettings
from numpy.typing import NDArray

from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search import text
from embeddings.spaces.lifecycle import space_for
from embeddings.spaces.vectors import to_bytes
from tests.index.conftest import unit
from tests.instances import checkpoints, embedder, embedder_process

__all__ = ["checkpoints", "embedder", "embedder_process"]

WORDS = 8


class Library(NamedTuple):
    """Live spaces of two models over the same tracks, and what leads from one to the other."""

    words: EmbeddingSpace
    space: EmbeddingSpace
    means: NDArray[np.float32]
    way: NDArray[np.float32]


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    text._words.cache_clear()


@pytest.fixture
def bridges(settings: LazySettings, tmp_path: Path) -> Path:
    """An empty folder of checkpoints."""
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"
    settings.CHECKPOINT_DIR.mkdir()
    return settings.CHECKPOINT_DIR


@pytest.fixture
def muq_space(embedder: object, db: None) -> EmbeddingSpace:
    """An empty live space of the weights that the embedder has."""
    return space_for("muq", EmbedderClient().describe("muq"))


def make_library(tracks: int = 300, *, dimension: int = 12, noise: float = 0.0, words: int = WORDS) -> Library:
    """Tracks whose MERT embedding is a linear map of their MuQ mean, but for ``noise``."""
    means = unit(tracks, words)
    way = unit(words, dimension, seed=1)
    heard = means @ way + common(dimension) + noise * unit(tracks, dimension, seed=3)
    muq = np.hstack([means, 0.1 * unit(tracks, 2 * words, seed=4)])
    return Library(live("muq", muq), live("mert", heard), means, way)


def common(dimension: int) -> NDArray[np.float32]:
    """What all embeddings share; as with MERT it is most of them."""
    return 3 * unit(1, dimension, seed=2)[0]


def live(model: str, vectors: NDArray[np.float32], fingerprint: str = "") -> EmbeddingSpace:
    """A live space with these vectors of tracks t0000, t0001, …"""
    space = EmbeddingSpace.objects.create(
        model=model,
        dimension=vectors.shape[1],
        fingerprint=fingerprint or f"fingerprint of {model}",
        recipe={"weights": [f"weights of {model}"]},
        status="live",
    )
    dtype = encoder_class(model).stored_dtype
    file = {"windows": 1, "audio_seconds": 1, "size": 1, "mtime": "m"}
    Embedding.objects.bulk_create(
        Embedding(space=space, track_id=f"t{number:04}", vector=to_bytes(row / np.linalg.norm(row), dtype), **file)
        for number, row in enumerate(vectors)
    )
    return space


@pytest.fixture
def nobody(settings: LazySettings, tmp_path: Path) -> None:
    """No embedder of this instance runs."""
    settings.NAVEMBED_HOME = tmp_path
    settings.EMBEDDER_SOCKET = tmp_path / "embedder.sock"
