"""A space's rows: those that stand for a track, a sample of them, and how long their vectors are."""

from __future__ import annotations

from django.db.models import F, QuerySet

from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.spaces.vectors import DTYPES

SCATTER, PRIME = 7_919, 1_000_003  # (key × scatter) mod prime: always the same sample, from all over the space


def rows_of(space: EmbeddingSpace) -> QuerySet[Embedding]:
    """Return the embeddings that are not to be deleted."""
    return space.embeddings.exclude(index_state=Embedding.IndexState.DELETING)


def sample(space: EmbeddingSpace, size: int) -> QuerySet[Embedding]:
    """Return so many of the space's embeddings, from all over it, always the same."""
    place = F("pk") * SCATTER % PRIME
    return rows_of(space).alias(place=place).order_by("place", "pk")[:size]


def vector_bytes(space: EmbeddingSpace) -> int:
    """Return the bytes of one stored vector."""
    return space.dimension * DTYPES[encoder_class(space.model).stored_dtype].itemsize
