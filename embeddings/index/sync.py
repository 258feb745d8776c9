"""From the database to the search index. The database holds the truth; the index follows.

An embedding is ``pending`` until Milvus holds it so that no kill loses it; sending it twice does no harm. What is
pending is marked as indexed only if its ``updated_at`` is still what it was when it was read: taking a row out of
Milvus gives its embedding a new one, so that a process which has just sent it does not mark it as indexed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from django.db.models import QuerySet
from django.utils import timezone

from embeddings.encoders.registry import encoder_class
from embeddings.errors import IndexRefused
from embeddings.index.ownership import point_aliases, settle
from embeddings.index.projection import search_dimension, search_vectors
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.vectors import from_bytes
from navembed_site.names import can_be_id
from navembed_site.process.slow_calls import RaiseIfStopped

if TYPE_CHECKING:
    from embeddings.index.store import IndexRow, VectorStore

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
    """What a comparison of database and index found, in numbers of tracks."""

    in_database: int
    """Embeddings marked as indexed."""
    in_index: int
    missing: int
    """Marked as indexed, but Milvus does not have them."""
    surplus: int
    """In Milvus without an embedding."""


class Reconciliation(NamedTuple):
    """How many tracks Milvus lacked, and how many it had too many; both are mended."""

    missing: int
    surplus: int


def vector_store(**options: Any) -> VectorStore:
    """Return the index that the settings name; ``options`` are ``VectorStore``'s. Only here pymilvus is imported."""
    from embeddings.index.store import VectorStore

    return VectorStore(**options)


def index_pending(
    space: EmbeddingSpace,
    *,
    batch: int = 200,
    progress: Callable[[int], None] | None = None,
    raise_if_stopped: RaiseIfStopped | None = None,
) -> int:
    """Bring Milvus up to the database: remove what is deleting, send what is pending. Returns rows sent.

    Call it outside transactions, from any number of processes. ``progress`` gets the rows sent so far;
    ``raise_if_stopped`` is called after each step, and while Milvus is slow. At most ``batch`` embeddings are in
    memory. Raises IndexUnavailable; what was sent until then stays sent.
    """
    if not EmbeddingSpace.objects.filter(pk=space.pk).exclude(status=EmbeddingSpace.Status.DROPPING).exists():
        return 0  # its collection would come back and stay for ever
    store = vector_store(raise_if_stopped=raise_if_stopped)
    _open(store, space)
    _remove_deleting(store, space)
    sent = 0
    for rows in _pending(space, batch):
        sent += _send(store, space, rows)
        if progress:
            progress(sent)
        if raise_if_stopped:
            raise_if_stopped()
    return sent


def rebuild_index(space: EmbeddingSpace, progress: Callable[[int], None] | None = None) -> int:
    """Make the space's collection anew from the database, without a device. Returns rows sent.

    Meanwhile search in this space finds only what has been sent again. If it is interrupted, ``index_pending``
    goes on.
    """
    store = vector_store()
    settle(store, space)
    store.drop(space.collection)
    _open(store, space)
    ensure_live_aliases()  # at once: a name that is free is anybody's
    sent = index_pending(space, progress=progress)
    seal(space)
    return sent


def seal(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped | None = None) -> None:
    """Has a Milvus server build its index over what it holds of the space. Raises IndexUnavailable."""
    store = vector_store(raise_if_stopped=raise_if_stopped)
    if store.exists(space.collection):
        store.seal(space.collection)


def mark_all_pending(space: EmbeddingSpace) -> int:
    """Mark every embedding of the space as pending, in short transactions. Returns how many were indexed."""
    last = indexed = 0
    rows = space.embeddings.exclude(index_state=DELETING).order_by("pk")
    while found := dict(rows.filter(pk__gt=last).values_list("pk", "index_state")[:IDS_PER_STEP]):
        send_again(space.embeddings.filter(pk__in=found))
        indexed += list(found.values()).count(INDEXED)
        last = max(found)
    return indexed


def verify(space: EmbeddingSpace) -> Verification:
    """Compare the ids in the database with those in Milvus itself, and change nothing. Raises IndexUnavailable."""
    store = vector_store()
    in_database = in_index = missing = surplus = 0
    for ids, unknown in _ids_in_index(store, space):
        in_index += len(ids)
        surplus += len(unknown)
    for rows, lacking in _indexed_rows(store, space):
        in_database += len(rows)
        missing += len(lacking)
    return Verification(in_database, in_index, missing, surplus)


def reconcile(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped | None = None) -> Reconciliation:
    """Compare the database with Milvus itself, both ways, and mend what differs; others may write meanwhile.

    What Milvus has without an embedding is deleted there; what it lacks becomes pending (``index_pending`` sends
    it). ``raise_if_stopped`` is called after each page of ids, and while Milvus is slow. Raises IndexUnavailable.
    """
    store = vector_store(raise_if_stopped=raise_if_stopped)
    settle(store, space)
    missing = surplus = 0
    for _, unknown in _ids_in_index(store, space):
        if unknown:
            store.delete(space.collection, unknown)
            # Embedded meanwhile, perhaps sent already, and now deleted.
            send_again(space.embeddings.filter(track_id__in=unknown))
        surplus += len(unknown)
        if raise_if_stopped:
            raise_if_stopped()
    if surplus:
        store.flush(space.collection)
    for _, lacking in _indexed_rows(store, space):
        missing += send_again(space.embeddings.filter(pk__in=lacking, index_state=INDEXED))
        if raise_if_stopped:
            raise_if_stopped()
    return Reconciliation(missing, surplus)


def counts_agree(space: EmbeddingSpace) -> bool:
    """Whether Milvus holds as many vectors as are marked as being there: quick, and no proof. Raises IndexUnavailable.

    To compare all ids, Milvus Lite looks at every row for each page of them.
    """
    # The first condition is the partial index's.
    indexed = space.embeddings.count() - space.embeddings.exclude(index_state=INDEXED).count()
    store = vector_store()
    return indexed == (store.count(space.collection) if store.exists(space.collection) else 0)


def _ids_in_index(store: VectorStore, space: EmbeddingSpace) -> Iterator[tuple[list[str], list[str]]]:
    """Yield pages of the ids that Milvus holds, and those of them that have no embedding."""
    ids = iter(store.ids(space.collection) if store.exists(space.collection) else ())
    while page := list(islice(ids, IDS_PER_STEP)):
        known = set(space.embeddings.filter(track_id__in=page).values_list("track_id", flat=True))
        yield page, [track_id for track_id in page if track_id not in known]


def _indexed_rows(store: VectorStore, space: EmbeddingSpace) -> Iterator[tuple[list[int], list[int]]]:
    """Yield pages of the keys of indexed embeddings, and those of them that Milvus does not hold."""
    exists = store.exists(space.collection)
    last = 0
    rows = space.embeddings.filter(index_state=INDEXED).order_by("pk").values_list("pk", "track_id")
    while page := dict(rows.filter(pk__gt=last)[:IDS_PER_STEP]):
        held = store.held(space.collection, list(page.values())) if exists else set()
        yield list(page), [pk for pk, track_id in page.items() if track_id not in held]
        last = max(page)


def send_again(embeddings: QuerySet[Embedding]) -> int:
    """Mark embeddings as pending, also for those who have just sent them; returns how many."""
    rows = embeddings.exclude(index_state=DELETING)
    return rows.update(index_state=PENDING, updated_at=timezone.now())


def ensure_live_aliases(*, take_over: bool = False, raise_if_stopped: RaiseIfStopped | None = None) -> str:
    """Points each model's alias at its live collection. Returns what stands in the way; see ``point_aliases``."""
    return point_aliases(vector_store(raise_if_stopped=raise_if_stopped), take_over=take_over)


def _open(store: VectorStore, space: EmbeddingSpace) -> None:
    """Makes the space's collection if need be, and claims it; when it was lost, everything is pending."""
    settle(store, space)
    if not store.exists(space.collection):
        mark_all_pending(space)  # first, so that an interrupted start leaves nothing out
    store.ensure_collection(space.collection, search_dimension(encoder_class(space.model), space.dimension))
    settle(store, space)  # it may be new


def _remove_deleting(store: VectorStore, space: EmbeddingSpace) -> None:
    # The first condition is the partial index's; without it the database reads all rows.
    deleting = space.embeddings.exclude(index_state=INDEXED).filter(index_state=DELETING)
    while rows := dict(deleting.values_list("pk", "track_id")[:IDS_PER_STEP]):
        store.delete(space.collection, list(filter(can_be_id, rows.values())))
        store.flush(space.collection)
        deleting.filter(pk__in=rows).delete()
        # Embedded again meanwhile: Milvus may have had it already, and has lost it now.
        send_again(space.embeddings.filter(pk__in=rows))


def _pending(space: EmbeddingSpace, batch: int) -> Iterator[list[PendingRow]]:
    """Yield pending rows, each once: one that is refused stays behind."""
    last = 0
    pending = space.embeddings.exclude(index_state=INDEXED).filter(index_state=PENDING).order_by("pk")
    fields = pending.values_list("pk", "track_id", "updated_at", "vector")
    while rows := [PendingRow(*row) for row in fields.filter(pk__gt=last)[:batch]]:
        if odd := {row.pk: row.track_id for row in rows if not can_be_id(row.track_id)}:
            logger.error("Vectors of ids that Milvus cannot hold are dropped: %r", list(odd.values()))
            space.embeddings.filter(pk__in=odd).delete()
        yield [row for row in rows if row.pk not in odd]
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
    from embeddings.index.store import IndexRow

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
