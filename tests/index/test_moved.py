"""Milvus after vectors have changed hands or left."""

from __future__ import annotations

import pytest
from django.core.management import call_command

from embeddings.index.store import VectorStore
from embeddings.index.sync import index_pending, verify
from embeddings.models import EmbeddingSpace, Track
from embeddings.spaces.reuse import take_over_moved
from tests.batches.rows import make_embedding, make_space, make_track
from tests.milvus import LiteServer

pytestmark = pytest.mark.django_db


@pytest.fixture
def space(milvus: LiteServer) -> EmbeddingSpace:
    """Two indexed tracks; the first one is gone from the library."""
    space = make_space()
    for name in ("old", "kept"):
        make_embedding(space, make_track(name, path=f"/music/{name}.flac"))
    index_pending(space)
    Track.objects.filter(pk="old").update(playable=False)
    return space


def in_milvus(space: EmbeddingSpace) -> list[str]:
    return sorted(VectorStore().ids(space.collection))


def test_milvus_knows_a_moved_vector_by_its_new_id_alone(space: EmbeddingSpace) -> None:
    make_track("new", path="/music/old.flac")
    take_over_moved(space, lambda: None)
    index_pending(space)
    assert in_milvus(space) == ["kept", "new"]
    assert verify(space)[:2] == (2, 2)


def test_pruning_by_hand_removes_from_milvus_too(space: EmbeddingSpace) -> None:
    call_command("prune")
    assert (in_milvus(space), space.embeddings.count()) == (["kept"], 1)
