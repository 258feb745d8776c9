"""What the tests of spaces share: spaces with vectors and tracks, in the database and in Milvus."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import Description
from embeddings.encoders.registry import encoder_class
from embeddings.index.sync import index_pending
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import fingerprint_of
from embeddings.spaces.vectors import to_bytes
from tests.index.conftest import unit
from tests.milvus import lite_server, milvus

__all__ = ["lite_server", "milvus"]

DIMENSION = 16


def described(weights: str = "new") -> Description:
    """What the embedder would say of a checkpoint with these weights."""
    return Description(DIMENSION, {"weights": weights}, 0, "")


def make_space(weights: str = "new", status: str = "live", *, model: str = "muq", vectors: int = 0) -> EmbeddingSpace:
    """A space of these weights, with vectors of as many tracks; nothing is in Milvus yet."""
    space = EmbeddingSpace.objects.create(
        model=model,
        dimension=DIMENSION,
        fingerprint=fingerprint_of(described(weights)),
        recipe={},
        status=status,
    )
    embed(space, unit(vectors, DIMENSION))
    return space


def embed(space: EmbeddingSpace, vectors: NDArray[np.float32], ids: Iterable[str] = ()) -> None:
    """Give tracks t0, t1, …, or those named, these vectors; the tracks are made where there are none."""
    ids = list(ids) or [f"t{n}" for n in range(len(vectors))]
    make_tracks(ids)
    dtype = encoder_class(space.model).stored_dtype
    Embedding.objects.bulk_create(
        Embedding(
            space=space, track_id=track_id, windows=1, audio_seconds=1, size=1, mtime="m", vector=to_bytes(row, dtype)
        )
        for track_id, row in zip(ids, vectors, strict=True)
    )


def make_tracks(ids: Iterable[str]) -> None:
    """Playable tracks, as they were when ``embed`` embedded them."""
    fields = {"library_id": 1, "duration": 1, "size": 1, "mtime": "m", "playable": True, "scan": 1}
    Track.objects.bulk_create([Track(id=i, path=f"/{i}", title=i, **fields) for i in ids], ignore_conflicts=True)


def indexed(space: EmbeddingSpace) -> EmbeddingSpace:
    """The same space, all of it in Milvus."""
    index_pending(space)
    return space


def statuses(model: str = "muq") -> list[str]:
    """Of the model's spaces, oldest first."""
    return list(EmbeddingSpace.objects.filter(model=model).order_by("pk").values_list("status", flat=True))
