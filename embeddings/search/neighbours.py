"""The tracks that sound most like a given one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from django.db.models import QuerySet
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.errors import FingerprintChanged, IndexRefused
from embeddings.index.projection import is_projected, search_vectors
from embeddings.index.sync import vector_store
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.vectors import from_bytes

CANDIDATES = 100  # found by projected vectors before they are ranked exactly; recall in docs/performance.md
MOST_CANDIDATES = 200


class Neighbour(NamedTuple):
    """A track and the cosine between its embedding and the one asked for."""

    track_id: str
    score: float


class NoLiveSpaceError(LookupError):
    """The model has no live space yet."""


class NotEmbeddedError(LookupError):
    """The track has no embedding in the model's live space."""


def nearest(
    model: str,
    vector: NDArray[np.float32],
    *,
    limit: int = 10,
    exclude: Iterable[str] = (),
    fingerprint: str | None = None,
) -> list[Neighbour]:
    """Return the ``limit`` tracks whose embeddings are nearest to ``vector`` [dimension], best first.

    ``vector`` may have any length; scores are exact cosines. Where the search vector is a projection, at most
    200 tracks can be found. ``fingerprint`` says by which weights and recipe ``vector`` was made, where the caller
    knows. Raises NoLiveSpaceError, FingerprintChanged when search uses other ones, IndexRefused (wrong dimension,
    zero or not finite), IndexUnavailable.
    """
    space = _space(model)
    if fingerprint is not None and fingerprint != space.fingerprint:
        raise FingerprintChanged(f"search uses {model} vectors of other weights or another recipe than this one's")
    return nearest_in(space, vector, limit=limit, exclude=exclude)


def nearest_in(
    space: EmbeddingSpace,
    vector: NDArray[np.float32],
    *,
    limit: int = 10,
    exclude: Iterable[str] = (),
    fresh: bool = False,
) -> list[Neighbour]:
    """Return the nearest tracks in this space, live or not; ``vector`` is one of its own. Raises as ``nearest``.

    ``fresh``: also among those that were sent to Milvus a moment ago.
    """
    unit = _unit(vector, space.dimension)
    encoder = encoder_class(space.model)
    approximate = is_projected(encoder, space.dimension)
    wanted = min(max(CANDIDATES, 2 * limit), MOST_CANDIDATES) if approximate else limit
    (query,) = search_vectors(encoder, unit[None])
    hits = vector_store().search(space.collection, query, wanted, exclude=exclude, fresh=fresh)
    if approximate:
        return _ranked_exactly(space, unit, [hit.track_id for hit in hits])[:limit]
    return [Neighbour(hit.track_id, hit.score) for hit in hits]


def nearest_to_track(model: str, track_id: str, limit: int = 10) -> list[Neighbour]:
    """Return the tracks nearest to an embedded one. Raises NotEmbeddedError and as ``nearest``."""
    space = _space(model)  # once: the live space may change between the two
    return nearest_in(space, embedding_in(space, track_id), limit=limit, exclude=[track_id])


def embedding_of(model: str, track_id: str) -> NDArray[np.float32]:
    """Return a track's live embedding, float32 [dimension]. Raises NotEmbeddedError, NoLiveSpaceError."""
    return embedding_in(_space(model), track_id)


def embedding_in(space: EmbeddingSpace, track_id: str) -> NDArray[np.float32]:
    """Return a track's embedding in this space, float32 [dimension]. Raises NotEmbeddedError."""
    row = _kept(space).filter(track_id=track_id).values_list("vector", flat=True).first()
    if row is None:
        raise NotEmbeddedError(f"track {track_id} has no {space.model} embedding")
    return from_bytes(row, encoder_class(space.model).stored_dtype, space.dimension)


def _space(model: str) -> EmbeddingSpace:
    space = live_space(model)
    if space is None:
        raise NoLiveSpaceError(f"nothing has been embedded with {model} yet")
    return space


def _ranked_exactly(space: EmbeddingSpace, unit: NDArray[np.float32], candidates: list[str]) -> list[Neighbour]:
    dtype = encoder_class(space.model).stored_dtype
    rows = _kept(space).filter(track_id__in=candidates).values_list("track_id", "vector")
    scored = []
    for track_id, data in rows.iterator():
        embedding = from_bytes(data, dtype, space.dimension)
        scored.append(Neighbour(track_id, float(unit @ embedding / np.linalg.norm(embedding))))
    return sorted(scored, key=lambda neighbour: (-neighbour.score, neighbour.track_id))


def _kept(space: EmbeddingSpace) -> QuerySet[Embedding]:
    return space.embeddings.exclude(index_state=Embedding.IndexState.DELETING)


def _unit(vector: NDArray[np.float32], dimension: int) -> NDArray[np.float32]:
    given = np.asarray(vector, np.float32)
    if given.shape != (dimension,):
        raise IndexRefused(f"a vector of shape {given.shape} instead of ({dimension},)")
    length = np.linalg.norm(given)
    if not np.isfinite(length) or length == 0:
        raise IndexRefused("the vector to search for is zero or not finite")
    return given / length
