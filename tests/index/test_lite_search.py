"""Our search in Milvus Lite finds what its own finds."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite.engine import collection
from milvus_lite.index.brute_force import BruteForceIndex

from embeddings.index import lite_search
from embeddings.index.lite_search import faster, lengths_of, nearest
from embeddings.index.lite_server import _open, _server
from embeddings.index.store import VectorStore
from tests.index.conftest import DIMENSION, NAME, rows, unit

VECTORS = 3 * unit(50, 8)
QUERIES = 2 * unit(4, 8, seed=1)


@pytest.mark.parametrize("top_k", [1, 10, 50, 60])
@pytest.mark.parametrize("excluded", [0, 7, 49, 50])
def test_places_and_distances_are_those_of_lite(top_k: int, excluded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_search, "BLOCK_BYTES", 7 * VECTORS[0].nbytes)
    valid = np.arange(50) >= excluded if excluded else None
    places, distances = nearest(VECTORS, lengths_of(VECTORS), QUERIES, top_k, valid)
    expected_places, expected = BruteForceIndex(VECTORS, "COSINE").search(QUERIES, top_k, valid)
    assert (places == expected_places).all()
    assert distances == pytest.approx(expected, abs=1e-6)


def test_vector_without_a_length_is_far_from_everything() -> None:
    vectors = np.vstack([VECTORS[:3], np.zeros((1, 8), np.float32)])
    places, distances = nearest(vectors, lengths_of(vectors), QUERIES, 4, None)
    assert np.isfinite(distances).all()
    assert (distances[places == 3] == 1).all()


@dataclass
class Both:
    """A store whose searches are done in both ways, except those that ours has ``left_to_lite``."""

    store: VectorStore
    searches: int = 0
    left_to_lite: int = 0

    def search(self, limit: int, **options: Any) -> list[str]:
        hits = self.store.search_all(NAME, unit(3, seed=9), limit, **options)
        return [hit.track_id for hit in hits[0]]


@pytest.fixture
def both(settings: Any, short_tmp: Path, unpatched: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    settings.MILVUS_URI = f"unix:{short_tmp / 's'}"
    execute = collection.execute_search_with_index
    database = _open(short_tmp / "x.db")
    server = _server(database, threading.Lock())
    server.add_insecure_port(settings.MILVUS_URI)
    server.start()
    made = Both(VectorStore())
    made.store.ensure_collection(NAME, DIMENSION)

    def left_to_lite(**options: Any) -> Any:
        made.left_to_lite += 1
        return execute(**options)

    ours = faster(left_to_lite)

    def search(**options: Any) -> Any:
        found, expected = ours(**options), execute(**options)
        for mine, lites in zip(found, expected, strict=True):
            assert [(hit["id"], hit["entity"]) for hit in mine] == [(hit["id"], hit["entity"]) for hit in lites]
            assert [hit["distance"] for hit in mine] == pytest.approx([hit["distance"] for hit in lites], abs=1e-6)
        made.searches += 1
        return found

    monkeypatch.setattr(collection, "execute_search_with_index", search)
    yield made
    server.stop(grace=5).wait()
    database.close()
    del database, server
    gc.collect()  # Milvus Lite leaves a file of its log unclosed; let the filter below see it


pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")


def test_rows_of_several_flushes_are_found_in_one_order(both: Both) -> None:
    for part in "abc":
        both.store.upsert(NAME, rows(30, prefix=part, seed=ord(part)), dimension=DIMENSION)
        both.store.flush(NAME)
    found = both.search(90)
    assert len(set(found)) == 90
    assert both.search(10) == found[:10]
    assert both.search(100, exclude=found[:40]) == found[40:]
    assert both.search(5, library_ids=[2]) == []
    assert (both.searches, both.left_to_lite) == (4, 0)


def test_only_the_newest_row_of_an_id_counts_and_none_that_is_deleted(both: Both) -> None:
    both.store.upsert(NAME, rows(40), dimension=DIMENSION)
    both.store.flush(NAME)
    before = both.search(40)
    both.store.upsert(NAME, rows(20, seed=5), dimension=DIMENSION)
    both.store.flush(NAME)
    after = both.search(40)
    assert sorted(after) == sorted(before)
    assert after != before
    both.store.delete(NAME, after[:3])
    both.store.flush(NAME)
    assert both.search(40) == after[3:]
    both.store.upsert(NAME, rows(40), dimension=DIMENSION)
    both.store.flush(NAME)
    assert both.search(40) == before
    assert (both.searches, both.left_to_lite) == (4, 0)


def test_rows_that_are_not_flushed_are_left_to_lite(both: Both) -> None:
    both.store.upsert(NAME, rows(20), dimension=DIMENSION)
    both.store.flush(NAME)
    both.store.upsert(NAME, rows(5, prefix="later"), dimension=DIMENSION)
    assert len(both.search(25)) == 25
    both.store.delete(NAME, ["t1"])
    assert len(both.search(25)) == 24
    assert (both.searches, both.left_to_lite) == (2, 2)


def test_nothing_is_found_in_an_empty_collection(both: Both) -> None:
    assert both.search(5) == []
