"""From the database to the search index. The database holds the truth; the index follows.

An embedding is ``pending`` until Milvus has acknowledged and flushed it; sending it twice does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from embeddings.encoders.registry import ENCODERS, encoder_class
from embeddings.errors import IndexRefused
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.projection import search_dimension, search_vectors
from embeddings.vectors import from_bytes

if TYPE_CHECKING:
    from embeddings.vector_store import IndexRow, VectorStore

logger = logging.getLogger(__name__)

PENDING, INDEXED, DELETING = Embedding.IndexState
IDS_PER_STEP = 1000
NO_LIBRARY = -1  # of an embedding whose track is gone


class PendingRow(NamedTuple):
    """What sending needs of an ``Embedding``."""

    pk: int
    track_id: str
    updated_at: datetime
    vector: bytes | memoryview


class Verification(NamedTuple):
    """What a comparison of database and index found; ``missing`` and ``surplus`` hold ids of tracks."""

    in_database: int
    """Embeddings marked as indexed."""
    in_index: int
    missing: list[str]
    """Marked as indexed, but Milvus does not have them."""
    surplus: list[str]
    """In Milvus without an embedding."""


def vector_store() -> VectorStore:
    """Return the index that the settings name. Only here pymilvus is imported."""
    from embeddings.vector_store import VectorStore

    return VectorStore()


def index_pending(space: EmbeddingSpace, *, batch: int = 200, progress: Callable[[int], None] | None = None) -> int:
    """Bring Milvus up to the database: remove what is deleting, send what is pending. Returns rows sent.

    Call it outside transactions, from any number of processes. ``progress`` gets the rows sent so far. At
    most ``batch`` embeddings are in memory. Raises IndexUnavailable; what was sent until then stays sent.
    """
    store = vector_store()
    if not store.exists(space.collection):
        mark_all_pending(space)  # first, so that an interrupted start leaves nothing out
    store.ensure_collection(space.collection, search_dimension(encoder_class(space.model), space.dimension))
    _remove_deleting(store, space)
    sent = 0
    for rows in _pending(space, batch):
        sent += _send(store, space, rows)
        if progress:
            progress(sent)
    return sent


def rebuild_index(space: EmbeddingSpace, progress: Callable[[int], None] | None = None) -> int:
    """Make the space's collection anew from the database, without a device. Returns rows sent.

    Meanwhile search in this space finds only what has been sent again. If it is interrupted, the rest is
    pending, and ``index_pending`` goes on.
    """
    mark_all_pending(space)
    vector_store().drop(space.collection)
    sent = index_pending(space, progress=progress)
    ensure_live_aliases()
    return sent


def mark_all_pending(space: EmbeddingSpace) -> None:
    """Mark every indexed embedding of the space as pending, in short transactions."""
    last = 0
    indexed = space.embeddings.filter(index_state=INDEXED).order_by("pk")
    while pks := list(indexed.filter(pk__gt=last).values_list("pk", flat=True)[:IDS_PER_STEP]):
        indexed.filter(pk__in=pks).order_by().update(index_state=PENDING)
        last = pks[-1]


def verify(space: EmbeddingSpace) -> Verification:
    """Compare the ids in the database with those in Milvus itself. Raises IndexUnavailable."""
    states = dict(space.embeddings.values_list("track_id", "index_state").iterator())
    expected = {track_id for track_id, state in states.items() if state == INDEXED}
    store = vector_store()
    found = set(store.ids(space.collection)) if store.exists(space.collection) else set()
    return Verification(len(expected), len(found), sorted(expected - found), sorted(found - states.keys()))


def ensure_live_aliases() -> list[str]:
    """Let each model's alias name its live collection.

    Returns the aliases that cannot, because collections of somebody else's have the names (``adopt_milvus``).
    """
    store = vector_store()
    foreign = store.foreign_collections(encoder.alias for encoder in ENCODERS)
    existing = set(store.collections())
    for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE):
        alias = encoder_class(space.model).alias
        if alias not in foreign and space.collection in existing:
            store.point_alias(alias, space.collection)
    return foreign


def _remove_deleting(store: VectorStore, space: EmbeddingSpace) -> None:
    # The first condition is the partial index's; without it the database reads all rows.
    deleting = space.embeddings.exclude(index_state=INDEXED).filter(index_state=DELETING)
    while rows := dict(deleting.values_list("pk", "track_id")[:IDS_PER_STEP]):
        store.delete(space.collection, list(rows.values()))
        store.flush(space.collection)
        deleting.filter(pk__in=rows).delete()
        # Embedded again meanwhile: Milvus may have had it already, and has lost it now.
        space.embeddings.filter(pk__in=rows).update(index_state=PENDING)


def _pending(space: EmbeddingSpace, batch: int) -> Iterator[list[PendingRow]]:
    """Yield pending rows, each once: one that is refused stays behind."""
    last = 0
    pending = space.embeddings.exclude(index_state=INDEXED).filter(index_state=PENDING).order_by("pk")
    fields = pending.values_list("pk", "track_id", "updated_at", "vector")
    while rows := [PendingRow(*row) for row in fields.filter(pk__gt=last)[:batch]]:
        yield rows
        last = rows[-1].pk


def _send(store: VectorStore, space: EmbeddingSpace, rows: Sequence[PendingRow]) -> int:
    index_rows = _index_rows(space, rows)
    if not index_rows:
        return 0
    dimension = len(index_rows[0].vector)
    store.upsert(space.collection, index_rows, dimension=dimension)
    store.flush(space.collection)
    # What was overwritten since it was read has a newer time and stays pending.
    sent = {row.track_id for row in index_rows}
    read = [row for row in rows if row.track_id in sent]
    space.embeddings.filter(
        pk__in=[row.pk for row in read],
        updated_at__in=[row.updated_at for row in read],
        index_state=PENDING,
    ).update(index_state=INDEXED)
    return len(index_rows)


def _index_rows(space: EmbeddingSpace, rows: Sequence[PendingRow]) -> list[IndexRow]:
    """Return what Milvus gets. A damaged vector is reported and left out: it must not hold up the others."""
    from embeddings.vector_store import IndexRow

    encoder = encoder_class(space.model)
    vectors = {}
    for row in rows:
        try:
            vectors[row.track_id] = from_bytes(row.vector, encoder.stored_dtype, space.dimension)
        except IndexRefused as error:
            logger.error("The %s embedding of track %s is damaged: %s", space.model, row.track_id, error)
    if not vectors:
        return []
    tracks = Track.objects.in_bulk(list(vectors))
    projected = search_vectors(encoder, np.stack(list(vectors.values())))
    return [
        IndexRow(track_id, str(track or ""), track.library_id if track else NO_LIBRARY, vector)
        for (track_id, track), vector in zip(
            ((track_id, tracks.get(track_id)) for track_id in vectors), projected, strict=True
        )
    ]
