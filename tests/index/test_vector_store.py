"""The vector store over a real Lite server."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from pymilvus import MilvusClient

from embeddings.errors import IndexRefused, IndexUnavailable
from embeddings.index.store import Hit, IndexRow, VectorStore
from tests.index.conftest import DIMENSION, NAME, rows, unit
from tests.milvus import LiteServer


def fill(store: VectorStore, content: list[IndexRow], name: str = NAME) -> None:
    store.upsert(name, content, dimension=len(content[0].vector))
    store.flush(name)


def found(hits: list[Hit]) -> list[str]:
    return [hit.track_id for hit in hits]


def foreign(server: LiteServer, name: str) -> None:
    client = MilvusClient(uri=f"unix:{server.socket}", dedicated=True)
    client.create_collection(name, dimension=4, timeout=10)
    client.close()


def test_search_finds_the_nearest_first_with_its_cosine(store: VectorStore) -> None:
    fill(store, rows(50))
    vectors, query = unit(50), unit(1, seed=9)[0]
    hits = store.search(NAME, query, 5)
    best = np.argsort(-(vectors @ query))[:5]
    assert found(hits) == [f"t{number}" for number in best]
    np.testing.assert_allclose([hit.score for hit in hits], (vectors @ query)[best], atol=1e-6)


def test_excluded_tracks_and_other_libraries_are_not_found(store: VectorStore) -> None:
    content = rows(4)
    fill(store, [*content[:3], content[3]._replace(library_id=7)])
    query = content[0].vector
    assert set(found(store.search(NAME, query, 10, exclude=["t0", "absent"]))) == {"t1", "t2", "t3"}
    assert found(store.search(NAME, query, 10, library_ids=[7, 8])) == ["t3"]
    assert store.search(NAME, query, 10, library_ids=[]) == []


def test_writing_an_id_again_replaces_its_row(store: VectorStore) -> None:
    fill(store, rows(3))
    fill(store, [rows(1)[0]._replace(vector=-rows(1)[0].vector)])
    assert store.count(NAME) == 3
    assert store.search(NAME, -rows(1)[0].vector, 1)[0].score == pytest.approx(1)


def test_deleted_rows_are_gone_and_absent_ids_do_not_matter(store: VectorStore) -> None:
    fill(store, rows(5))
    store.delete(NAME, ["t1", "t3", "never"])
    store.flush(NAME)
    assert sorted(store.ids(NAME)) == ["t0", "t2", "t4"]
    assert store.count(NAME) == 3


def test_a_server_is_flushed_only_every_so_many_rows_and_when_it_is_asked(
    store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embeddings.index.store.SEAL_ROWS", 30)
    lite = store._connection()
    monkeypatch.setattr(store, "_connection", lambda: lite._replace(is_lite=False))
    calls: list[str] = []
    monkeypatch.setattr(store, "_write", lambda method, *args, **kwargs: calls.append(method))
    for _ in range(4):
        fill(store, rows(10))
    assert calls.count("flush") == 1
    store.seal(NAME)
    assert calls.count("flush") == 2


def test_ids_are_iterated_over_more_than_a_page(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.index.store.IDS_PER_PAGE", 30)
    fill(store, rows(100))
    assert sorted(store.ids(NAME)) == sorted(f"t{number}" for number in range(100))


@pytest.mark.parametrize("odd", ['quo"te', "back\\slash", "a'b", 'x"] or track_id != "', "ünïcødé 曲", "\\", "%_"])
def test_odd_ids_are_found_excluded_and_deleted_as_themselves(store: VectorStore, odd: str) -> None:
    fill(store, [*rows(3), rows(4)[3]._replace(track_id=odd)])
    query = rows(4)[3].vector
    assert store.search(NAME, query, 1)[0].track_id == odd
    assert set(found(store.search(NAME, query, 9, exclude=[odd]))) == {"t0", "t1", "t2"}
    store.delete(NAME, [odd])
    assert set(found(store.search(NAME, query, 9))) == {"t0", "t1", "t2"}


def test_a_long_name_is_cut_between_characters(store: VectorStore) -> None:
    fill(store, [rows(1)[0]._replace(name="曲" * 2000)])
    assert store.count(NAME) == 1


@pytest.mark.parametrize(
    "bad",
    [
        rows(1)[0]._replace(vector=np.full(DIMENSION, np.nan, np.float32)),
        rows(1)[0]._replace(vector=np.full(DIMENSION, np.inf, np.float32)),
        rows(1)[0]._replace(vector=np.zeros(DIMENSION, np.float32)),
        rows(1)[0]._replace(vector=np.ones(DIMENSION + 1, np.float32)),
        rows(1)[0]._replace(track_id="line\nbreak"),
        rows(1)[0]._replace(track_id=""),
        rows(1)[0]._replace(track_id="é" * 128),
    ],
    ids=["nan", "infinite", "zero", "dimension", "control character", "empty id", "long id"],
)
def test_what_must_not_enter_the_index_is_refused_and_nothing_written(store: VectorStore, bad: IndexRow) -> None:
    with pytest.raises(IndexRefused):
        fill(store, [*rows(2, prefix="good"), bad])
    assert store.count(NAME) == 0


def test_more_rows_than_fit_in_a_message_all_arrive(store: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.index.store.MESSAGE_BYTES", 4 * DIMENSION * 7)
    fill(store, rows(50))
    assert store.count(NAME) == 50


def test_a_collection_of_another_dimension_is_refused(store: VectorStore) -> None:
    with pytest.raises(IndexRefused, match="8 numbers instead of 9"):
        store.ensure_collection(NAME, DIMENSION + 1)


def test_a_half_made_collection_is_mended(store: VectorStore) -> None:
    store.drop(NAME)
    store._create(NAME, DIMENSION)  # as when killed before the index was made
    store.ensure_collection(NAME, DIMENSION)
    fill(store, rows(2))
    assert len(store.search(NAME, rows(1)[0].vector, 5)) == 2


def test_an_alias_is_made_moved_and_mended(store: VectorStore) -> None:
    store.ensure_collection("navembed_test_2", DIMENSION)
    fill(store, rows(1, prefix="second"), "navembed_test_2")
    for target in (NAME, NAME, "navembed_test_2"):
        store.point_alias("embedding", target)
    assert list(store.ids("embedding")) == ["second0"]
    store.drop("navembed_test_2")
    store.point_alias("embedding", NAME)
    assert store.count("embedding") == 0


def test_a_foreign_collection_is_neither_dropped_nor_hidden(store: VectorStore, milvus: LiteServer) -> None:
    foreign(milvus, "embedding")
    with pytest.raises(IndexRefused, match="adopt_milvus"):
        store.point_alias("embedding", NAME)
    with pytest.raises(IndexRefused, match="not one of ours"):
        store.drop("embedding")
    assert store.foreign_collections(["embedding", "mert_embedding"]) == ["embedding"]


def test_adopting_renames_to_the_next_free_name(store: VectorStore, milvus: LiteServer) -> None:
    foreign(milvus, "embedding")
    assert store.adopt("embedding") == "embedding_replaced"
    foreign(milvus, "embedding")
    assert store.adopt("embedding") == "embedding_replaced_2"
    store.point_alias("embedding", NAME)
    assert set(store.collections()) == {NAME, "embedding_replaced", "embedding_replaced_2"}


def test_threads_share_a_connection(store: VectorStore) -> None:
    fill(store, rows(20))
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(store.count(NAME))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [20] * 8


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_searches_and_its_parent_goes_on(store: VectorStore) -> None:
    fill(store, rows(3))
    child = os.fork()
    if child == 0:
        os._exit(0 if VectorStore().count(NAME) == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.count(NAME) == 3


def test_searching_what_is_not_there_is_a_passing_error(store: VectorStore) -> None:
    with pytest.raises(IndexUnavailable):
        store.search("navembed_absent_1", rows(1)[0].vector, 1)
