"""A space's vectors for a picture, a few megabytes at a time: libraries are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.errors import IndexRefused
from embeddings.index.projection import search_vectors
from embeddings.models import EmbeddingSpace
from embeddings.spaces.rows import rows_of, sample, vector_bytes
from embeddings.spaces.vectors import from_bytes

BLOCK_BYTES = 16 * 2**20
MOST_KEYS = 5_000  # in one statement

Floats = NDArray[np.float32]


class Block(NamedTuple):
    """Some embeddings: their keys, and their search vectors, float32 [n, search dimension]; those keep distances."""

    keys: list[int]
    rows: Floats


def keys_of(space: EmbeddingSpace, most: int) -> list[int]:
    """Return the keys of at most so many embeddings from all over the space, ascending."""
    return sorted(sample(space, most).values_list("pk", flat=True))


def blocks(space: EmbeddingSpace, keys: Sequence[int]) -> Iterator[Block]:
    """Yield the embeddings with these keys, in their order; those that are gone or damaged are left out."""
    encoder = encoder_class(space.model)
    size = min(MOST_KEYS, max(1, BLOCK_BYTES // vector_bytes(space)))
    for start in range(0, len(keys), size):
        found = rows_of(space).filter(pk__in=keys[start : start + size]).order_by("pk").values_list("pk", "vector")
        sound = {}
        for key, data in found:
            try:
                sound[key] = from_bytes(data, encoder.stored_dtype, space.dimension)
            except IndexRefused:
                continue
        if sound:
            yield Block(list(sound), search_vectors(encoder, np.stack(list(sound.values()))))
