"""What the tests of the index share."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.index.store import IndexRow, VectorStore
from tests.instance.conftest import eventually
from tests.milvus import LiteServer, lite_server, milvus

__all__ = ["eventually", "lite_server", "milvus"]

DIMENSION = 8
NAME = "navembed_test_1"


def unit(count: int, dimension: int = DIMENSION, seed: int = 0) -> NDArray[np.float32]:
    """Random unit vectors, float32 [count, dimension]."""
    drawn = np.random.default_rng(seed).normal(size=(count, dimension))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def rows(count: int, *, prefix: str = "t", seed: int = 0, dimension: int = DIMENSION) -> list[IndexRow]:
    """Rows of random vectors, with ids t0, t1, …"""
    return [
        IndexRow(f"{prefix}{number}", f"Artist - {number}", 1, vector)
        for number, vector in enumerate(unit(count, dimension, seed))
    ]


@pytest.fixture
def store(milvus: LiteServer) -> VectorStore:
    """A store with an empty collection NAME."""
    store = VectorStore(timeout=60, write_timeout=120)
    store.ensure_collection(NAME, DIMENSION)
    return store


@pytest.fixture
def unpatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is patched in Milvus Lite is put back after the test."""
    from milvus_lite.engine import collection, compaction, flush
    from milvus_lite.search import filter as filters
    from milvus_lite.storage.segment import Segment

    for place, name in (
        (Segment, "row_to_dict"),
        (Segment, "build_or_load_index"),
        (collection, "execute_search_with_index"),
        (compaction, "write_data_file"),
        (flush, "write_data_file"),
        (flush, "write_delta_file"),
        (filters, "parse_expr"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
