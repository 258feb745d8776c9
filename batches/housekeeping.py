"""Gives back what is kept for a time only, in slices that block nobody."""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.db import connection
from django.db.models import Exists, OuterRef
from django.utils import timezone

from batches.models import BatchJob, TrackResult
from embeddings.errors import IndexUnavailable
from embeddings.index.ownership import settle
from embeddings.index.sync import vector_store
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import drop_expired
from embeddings.spaces.rows import vector_bytes

logger = logging.getLogger(__name__)

KEEP_SUCCESSES = timedelta(days=30)
SLICE = 10_000
SLICE_BYTES = 4 * 2**20  # of vectors, in one transaction
PAGES_A_SLICE = 2_000
SPARE_PAGES = 2_000  # that stay free: the next rows take them


def delete_old_results() -> int:
    """Delete successes of jobs that ended more than 30 days ago; failures and notes stay. Returns how many."""
    total = 0
    for job in BatchJob.objects.filter(finished_at__lt=timezone.now() - KEEP_SUCCESSES):
        successes = job.results.filter(status=TrackResult.Status.SUCCEEDED, note="")
        while ids := list(successes.values_list("pk", flat=True)[:SLICE]):
            TrackResult.objects.filter(pk__in=ids).delete()
            total += len(ids)
            give_pages_back()
    return total


def give_back(seconds: float) -> int:
    """Go on giving back the disk of spaces that are not kept any longer, for so long. Returns vectors deleted.

    A space's rows go first, a few megabytes in a transaction, then its collection, then the space. Whatever
    interrupts it, the next call goes on.
    """
    deadline = time.monotonic() + seconds
    drop_expired()
    total = 0
    for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.DROPPING).order_by("pk"):
        while time.monotonic() < deadline:
            began = time.monotonic()
            deleted = _delete_vectors(space)
            total += deleted
            free = free_pages()
            give_pages_back()
            is_shrinking = free_pages() < free
            if not deleted and (free <= SPARE_PAGES or not is_shrinking):
                _forget(space)
                break
            time.sleep(time.monotonic() - began)  # as long as others have waited, they may write
    return total


def _delete_vectors(space: EmbeddingSpace) -> int:
    """Delete some of the space's vectors in one short transaction; returns how many."""
    # In no order: it is that of the index by which the space's rows are found.
    pks = list(space.embeddings.values_list("pk", flat=True)[: max(1, SLICE_BYTES // vector_bytes(space))])
    return Embedding.objects.filter(pk__in=pks).delete()[0] if pks else 0


def _forget(space: EmbeddingSpace) -> None:
    """Drop the collection of a space without rows, and the space."""
    store = vector_store()
    try:
        settle(store, space)
        store.drop(space.collection)
    except IndexUnavailable as error:
        logger.info("%s cannot be dropped now: %s", space.collection, error)
    else:
        space.delete()
        logger.info("the disk of %s has been given back", space)


def delete_gone_tracks() -> int:
    """Delete tracks that are gone from the library and of which nothing is kept; returns how many."""
    of_track = {"track": OuterRef("pk")}
    kept = Exists(Embedding.objects.filter(**of_track)) | Exists(TrackResult.objects.filter(**of_track))
    unknown = Track.objects.filter(~kept, playable=False)
    total = 0
    while ids := list(unknown.values_list("pk", flat=True)[:SLICE]):
        total += unknown.filter(pk__in=ids).delete()[0]
        give_pages_back()
    return total


def give_pages_back() -> None:
    """Returns SQLite's freed pages to the file system, a slice at a time; never runs a full VACUUM."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:  # a script would end the transaction
        with connection.cursor() as cursor:
            # Each step gives back one page, and `execute` takes one step only.
            cursor.executescript(f"PRAGMA incremental_vacuum({PAGES_A_SLICE})")


def free_pages() -> int:
    """Return how many pages of SQLite's file hold nothing; 0 on other databases, which see to it themselves."""
    if connection.vendor != "sqlite":
        return 0
    with connection.cursor() as cursor:
        return int(cursor.execute("PRAGMA freelist_count").fetchone()[0])
