"""From the database to Milvus, and the search over both."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from numpy.typing import NDArray
from pymilvus import MilvusClient
from pytest_django import DjangoAssertNumQueries

from embeddings.errors import IndexRefused, IndexUnavailable
from embeddings.index.store import VectorStore
from embeddings.index.sync import index_pending, rebuild_index, verify
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search.neighbours import NotEmbeddedError, nearest_in, nearest_to_track
from embeddings.spaces.vectors import from_bytes, to_bytes
from tests.index.conftest import unit
from tests.milvus import LiteServer

State = Embedding.IndexState
pytestmark = pytest.mark.django_db


@pytest.fixture
def space(db: None, milvus: LiteServer) -> EmbeddingSpace:
    return new_space("muq", 16)


def new_space(model: str, dimension: int, status: str = "live") -> EmbeddingSpace:
    return EmbeddingSpace.objects.create(
        model=model, dimension=dimension, fingerprint="f" * 64, recipe={}, status=status
    )


def embed(space: EmbeddingSpace, vectors: NDArray[np.float32], *, dtype: str = "float32") -> list[Embedding]:
    """Tracks t0, t1, … with these embeddings, pending."""
    Track.objects.bulk_create(
        [
            Track(
                id=f"t{n}",
                library_id=1,
                path=f"/{n}",
                title=f"T{n}",
                artist="A",
                duration=1,
                size=1,
                playable=1,
                scan=1,
            )
            for n in range(len(vectors))
        ],
        ignore_conflicts=True,
    )
    return Embedding.objects.bulk_create(
        [
            Embedding(space=space, track_id=f"t{n}", windows=1, audio_seconds=1, size=1, vector=to_bytes(vector, dtype))
            for n, vector in enumerate(vectors)
        ]
    )


def states(space: EmbeddingSpace) -> set[str]:
    return set(space.embeddings.values_list("index_state", flat=True))


def in_milvus(space: EmbeddingSpace) -> set[str]:
    return set(VectorStore().ids(space.collection))


def test_pending_embeddings_are_sent_and_marked(space: EmbeddingSpace) -> None:
    embed(space, unit(25, 16))
    assert index_pending(space, batch=10) == 25
    assert states(space) == {State.INDEXED}
    assert in_milvus(space) == {f"t{n}" for n in range(25)}
    assert index_pending(space) == 0


def test_a_batch_costs_few_queries(
    space: EmbeddingSpace, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    embed(space, unit(30, 16))
    index_pending(space)
    space.embeddings.update(index_state=State.PENDING)
    with django_assert_max_num_queries(3 * 3 + 3):  # read, tracks, mark; the space, end of deleting, of pending
        index_pending(space, batch=10)


def test_what_is_not_yet_indexed_is_found_by_its_index(space: EmbeddingSpace) -> None:
    pending = space.embeddings.exclude(index_state=State.INDEXED).filter(index_state=State.PENDING)
    assert "embedding_not_indexed" in pending.order_by("pk").values_list("pk")[:200].explain()


def test_a_row_that_is_overwritten_while_it_is_sent_stays_pending(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = embed(space, unit(2, 16))
    flush = VectorStore.flush

    def overwrite_and_flush(store: VectorStore, name: str) -> None:
        first.save()
        flush(store, name)

    monkeypatch.setattr(VectorStore, "flush", overwrite_and_flush)
    index_pending(space)
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.index_state, second.index_state) == (State.PENDING, State.INDEXED)


def test_deleting_rows_leave_milvus_and_then_the_database(space: EmbeddingSpace) -> None:
    embed(space, unit(5, 16))
    index_pending(space)
    space.embeddings.filter(track_id__in=["t1", "t2"]).update(index_state=State.DELETING)
    index_pending(space)
    assert in_milvus(space) == set(space.embeddings.values_list("track_id", flat=True)) == {"t0", "t3", "t4"}


def test_a_row_that_is_embedded_again_while_it_is_deleted_is_sent_again(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(space, unit(1, 16))
    index_pending(space)
    space.embeddings.update(index_state=State.DELETING)
    delete = VectorStore.delete

    def embed_and_delete(store: VectorStore, name: str, ids: list[str]) -> None:
        space.embeddings.update(index_state=State.INDEXED)  # by another process, which sent it just before
        delete(store, name, ids)

    monkeypatch.setattr(VectorStore, "delete", embed_and_delete)
    assert index_pending(space) == 1
    assert in_milvus(space) == {"t0"}


def test_an_embedding_whose_track_is_gone_is_indexed(space: EmbeddingSpace) -> None:
    embed(space, unit(3, 16))
    Track.objects.filter(id="t1")._raw_delete("default")  # type: ignore[attr-defined]
    assert index_pending(space) == 3


def test_a_damaged_vector_does_not_hold_up_the_others(space: EmbeddingSpace) -> None:
    embed(space, unit(4, 16))
    space.embeddings.filter(track_id="t2").update(vector=b"short")
    assert index_pending(space, batch=1) == 3
    assert list(space.embeddings.filter(index_state=State.PENDING).values_list("track_id", flat=True)) == ["t2"]


def test_a_lost_index_is_filled_again_from_the_database(space: EmbeddingSpace) -> None:
    embed(space, unit(5, 16))
    index_pending(space)
    VectorStore().drop(space.collection)
    assert index_pending(space) == 5
    assert len(in_milvus(space)) == 5


def test_a_rebuild_mends_what_verification_finds(space: EmbeddingSpace) -> None:
    embed(space, unit(5, 16))
    index_pending(space)
    VectorStore().delete(space.collection, ["t3"])
    space.embeddings.filter(track_id="t4").delete()
    found = verify(space)
    assert (found.in_database, found.in_index, found.missing, found.surplus) == (4, 4, 1, 1)
    progress: list[int] = []
    assert rebuild_index(space, progress.append) == 4
    assert (verify(space), progress) == ((4, 4, 0, 0), [4])


def test_a_rebuild_that_is_interrupted_goes_on_later(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(space, unit(6, 16))
    index_pending(space)

    def interrupt(sent: int) -> None:
        raise IndexUnavailable("gone")

    monkeypatch.setattr(index_pending, "__kwdefaults__", index_pending.__kwdefaults__ | {"batch": 2})
    with pytest.raises(IndexUnavailable):
        rebuild_index(space, interrupt)
    assert index_pending(space) == 4
    assert verify(space) == (6, 6, 0, 0)


def test_milvus_that_is_away_leaves_everything_pending(space: EmbeddingSpace, milvus: LiteServer) -> None:
    embed(space, unit(2, 16))
    milvus.end(signal.SIGKILL)
    with pytest.raises(IndexUnavailable):
        index_pending(space)
    assert states(space) == {State.PENDING}


def test_aliases_follow_the_live_spaces(space: EmbeddingSpace) -> None:
    rebuild_index(space)
    assert VectorStore()._read("describe_alias", "embedding")["collection_name"] == space.collection
    space.status = EmbeddingSpace.Status.KEPT
    space.save()
    rebuild_index(new_space("muq", 16))
    assert VectorStore()._read("describe_alias", "embedding")["collection_name"] != space.collection


def test_commands_rebuild_and_adopt(
    space: EmbeddingSpace, milvus: LiteServer, capsys: pytest.CaptureFixture[str]
) -> None:
    embed(space, unit(3, 16))
    client = MilvusClient(uri=f"unix:{milvus.socket}", dedicated=True)
    client.create_collection("embedding", dimension=4, timeout=10)
    client.close()
    call_command("rebuild_index", "--model", "muq")
    assert f"3 embeddings are in {space.collection}" in capsys.readouterr().out
    call_command("adopt_milvus")
    assert "embedding is now embedding_replaced" in capsys.readouterr().out
    assert VectorStore().count("embedding") == 3
    with pytest.raises(CommandError, match="Nothing has been embedded"):
        call_command("rebuild_index", "--model", "mert")


def test_neighbours_of_a_track_come_best_first_without_itself(space: EmbeddingSpace) -> None:
    vectors = unit(30, 16)
    embed(space, vectors)
    index_pending(space)
    cosines = vectors @ vectors[4]
    best = [n for n in np.argsort(-cosines) if n != 4][:6]
    found = nearest_to_track("muq", "t4", 6)
    assert [track_id for track_id, _ in found] == [f"t{n}" for n in best]
    np.testing.assert_allclose([score for _, score in found], cosines[best], atol=1e-6)


def test_long_embeddings_are_found_by_projection_and_ranked_exactly(milvus: LiteServer) -> None:
    space = new_space("mert", 4096)
    vectors = unit(150, 20) @ unit(20, 4096, seed=1)  # few degrees of freedom, as music has
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = embed(space, vectors, dtype="float16")
    index_pending(space)
    stored = np.stack([from_bytes(row.vector, "float16", 4096) for row in rows]).astype(np.float64)
    cosines = stored @ stored[7] / np.linalg.norm(stored, axis=1) / np.linalg.norm(stored[7])
    found = nearest_to_track("mert", "t7", 10)
    best = [n for n in np.argsort(-cosines) if n != 7][:10]
    assert [track_id for track_id, _ in found] == [f"t{n}" for n in best]
    np.testing.assert_allclose([score for _, score in found], cosines[best], atol=1e-6)


def test_a_query_of_any_length_gives_cosines_and_excludes(space: EmbeddingSpace) -> None:
    vectors = unit(5, 16)
    embed(space, vectors)
    index_pending(space)
    assert nearest_in(space, vectors[2] * 50, limit=1)[0].score == pytest.approx(1)
    assert {hit.track_id for hit in nearest_in(space, vectors[2], exclude=["t0", "t2"])} == {"t1", "t3", "t4"}


@pytest.mark.parametrize("bad", [np.ones(15), np.zeros(16), np.full(16, np.nan)])
def test_a_query_that_is_no_vector_is_refused(space: EmbeddingSpace, bad: NDArray[np.float64]) -> None:
    with pytest.raises(IndexRefused):
        nearest_in(space, bad.astype(np.float32))


def test_what_was_never_embedded_has_no_neighbours(space: EmbeddingSpace) -> None:
    with pytest.raises(NotEmbeddedError):
        nearest_to_track("muq", "t1", 3)
    with pytest.raises(NotEmbeddedError, match="nothing has been embedded with latent"):
        nearest_to_track("latent", "t1", 3)
