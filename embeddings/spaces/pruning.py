"""Embeddings of deleted tracks leave. Those of tracks that are merely away stay: each has cost device time."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from django.conf import settings

from embeddings.library.away import looked_at
from embeddings.models import EmbeddingSpace
from embeddings.spaces.reuse import DELETING, deleted, mark, orphans
from navembed_site.process.slow_calls import RaiseIfStopped


class Pruned(NamedTuple):
    """What pruning came to."""

    pruned: int
    held: str = ""
    """Why nothing was pruned, and what a human can do; empty when nothing stood in the way."""


def prune(space: EmbeddingSpace, raise_if_stopped: RaiseIfStopped, *, force: bool = False) -> Pruned:
    """Marks the embeddings of deleted tracks for deletion: ``index_pending`` removes them from Milvus, then their rows.

    Those of tracks that are away leave after NAVEMBED_KEEP_MISSING_DAYS, or by ``force``. Nothing is pruned, unless by
    ``force``, when it would be more than half of the space's. Call it after everything has been reused that may
    be: a vector that leaves cannot be taken over.
    """
    if force:
        leaving = orphans(space)
    else:
        leaving = deleted(space, looked_at() - timedelta(days=settings.KEEP_MISSING_DAYS))
        if held := _objection(space, len(leaving)):
            return Pruned(0, held)
    mark(leaving, DELETING, raise_if_stopped)
    return Pruned(len(leaving))


def _objection(space: EmbeddingSpace, count: int) -> str:
    already = space.embeddings.exclude(index_state="indexed").filter(index_state=DELETING).count()
    total = space.embeddings.count() - already
    if 2 * count <= total:
        return ""
    return (
        f"{count} of {total} {space.model} embeddings belong to tracks that are gone from the library; nothing was "
        "pruned. Look whether Navidrome's library is complete: a disk may be away, or a scan unfinished. If the tracks "
        "are really gone, run `manage.py prune --yes`."
    )
