"""The nearest tracks in one space, without all that makes a recommendation: for comparing spaces, and for the demo."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.errors import IndexRefused
from embeddings.index.projection import is_projected, search_vectors
from embeddings.index.sync import vector_store
from embeddings.models import EmbeddingSpace
from embeddings.search.comparing import cosines, probe
from embeddings.search.deadline import Deadline
from embeddings.search.retrieval import enough_candidates
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.rows import rows_of
from embeddings.spaces.vectors import from_bytes


class Neighbour(NamedTuple):
    """A track and the cosine between its embedding and the one asked for."""

    track_id: str
    score: float


class NotEmbeddedError(LookupError):
    """The track has no embedding in the space, or the model no live space yet."""


def nearest_in(
    space: EmbeddingSpace,
    vector: NDArray[np.float32],
    *,
    limit: int = 10,
    exclude: Iterable[str] = (),
    fresh: bool = False,
) -> list[Neighbour]:
    """Return the ``limit`` tracks of this space, live or not, nearest to ``vector`` [dimension], one of its own.

    Best first, as Milvus has them; where it has projections, exact cosines rank more tracks that it finds.
    ``fresh``: also among those that were sent to Milvus a moment ago. Raises IndexRefused (wrong dimension, zero or
    not finite), IndexUnavailable.
    """
    asked = probe(vector) if np.shape(vector) == (space.dimension,) else None
    if asked is None:
        raise IndexRefused(f"{space.model} cannot search by a vector of {np.shape(vector)} numbers, zero or not finite")
    encoder = encoder_class(space.model)
    approximate = is_projected(encoder, space.dimension)
    wanted = enough_candidates(space, limit, is_alone=True) if approximate else limit
    (query,) = search_vectors(encoder, asked.vector[None].astype(np.float32))
    hits = vector_store().search(space.collection, query, wanted, exclude=exclude, fresh=fresh)
    if not approximate:
        return [Neighbour(hit.track_id, hit.score) for hit in hits]
    ids, found = cosines(space, [asked], [hit.track_id for hit in hits], Deadline(math.inf))
    ranked = map(Neighbour, ids, found[:, 0].tolist())
    return sorted(ranked, key=lambda neighbour: (-neighbour.score, neighbour.track_id))[:limit]


def nearest_to_track(model: str, track_id: str, limit: int = 10) -> list[Neighbour]:
    """Return the tracks nearest to an embedded one. Raises NotEmbeddedError and as ``nearest_in``."""
    space = live_space(model)  # once: the live space may change between the two
    if space is None:
        raise NotEmbeddedError(f"nothing has been embedded with {model} yet")
    return nearest_in(space, embedding_in(space, track_id), limit=limit, exclude=[track_id])


def embedding_in(space: EmbeddingSpace, track_id: str) -> NDArray[np.float32]:
    """Return a track's embedding in this space, float32 [dimension]. Raises NotEmbeddedError."""
    row = rows_of(space).filter(track_id=track_id).values_list("vector", flat=True).first()
    if row is None:
        raise NotEmbeddedError(f"track {track_id} has no {space.model} embedding")
    return from_bytes(row, encoder_class(space.model).stored_dtype, space.dimension)
