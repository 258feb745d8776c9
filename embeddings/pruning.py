"""Embeddings of tracks that are gone from the library leave, unless so many are gone that something must be wrong."""

from __future__ import annotations

from typing import NamedTuple

from embeddings.models import EmbeddingSpace
from embeddings.recognition import DELETING, Fence, mark, orphans


class Pruned(NamedTuple):
    """What pruning came to."""

    pruned: int
    held: str = ""
    """Why nothing was pruned, and what a human can do; empty when nothing stood in the way."""


def prune(space: EmbeddingSpace, fence: Fence, *, force: bool = False) -> Pruned:
    """Let the embeddings of gone tracks leave: ``index_pending`` removes them from Milvus, then their rows.

    Nothing is pruned, unless by ``force``, when they are more than half of the space's. Call it after everything has
    been recognised that may be: a vector that leaves cannot be taken over.
    """
    gone = orphans(space)
    if not force and (held := _objection(space, len(gone))):
        return Pruned(0, held)
    mark(gone, DELETING, fence)
    return Pruned(len(gone))


def _objection(space: EmbeddingSpace, gone: int) -> str:
    leaving = space.embeddings.exclude(index_state="indexed").filter(index_state=DELETING).count()
    total = space.embeddings.count() - leaving
    if 2 * gone <= total:
        return ""
    return (
        f"{gone} of {total} {space.model} embeddings belong to tracks that are gone from the library; nothing was "
        "pruned. Look whether Navidrome's library is complete: a disk may be away, or a scan unfinished. If the tracks "
        "are really gone, run `manage.py prune --yes`."
    )
