"""Database and Milvus compared and mended, also while others write."""

from __future__ import annotations

import signal
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from django.utils import timezone
from numpy.typing import NDArray

from embeddings.errors import IndexUnavailable
from embeddings.index import sync
from embeddings.index.store import VectorStore
from embeddings.index.sync import Reconciliation, index_pending, reconcile, seal, verify
from embeddings.models import Embedding, EmbeddingSpace
from tests.index.conftest import rows, unit
from tests.index.test_indexing import embed, in_milvus, new_space
from tests.milvus import LiteServer

State = Embedding.IndexState
pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def space(db: None, milvus: LiteServer) -> EmbeddingSpace:
    """Ten embeddings, t0 to t9, all of them in Milvus."""
    space = new_space("muq", 16)
    embed(space, unit(10, 16))
    index_pending(space)
    return space


def pending(space: EmbeddingSpace) -> set[str]:
    return set(space.embeddings.filter(index_state=State.PENDING).values_list("track_id", flat=True))


def embed_again(space: EmbeddingSpace, track_id: str) -> None:
    """As a job does: a new vector, whether or not there was one."""
    space.embeddings.filter(track_id=track_id).delete()
    vector = unit(1, 16, seed=3)[0].tobytes()
    Embedding.objects.create(space=space, track_id=track_id, windows=1, audio_seconds=1, size=1, vector=vector)


def test_what_agrees_is_left_alone(space: EmbeddingSpace) -> None:
    assert reconcile(space) == (0, 0)
    assert not pending(space)


def test_both_differences_are_counted_and_mended(space: EmbeddingSpace) -> None:
    VectorStore().delete(space.collection, ["t3", "t4"])
    space.embeddings.filter(track_id="t9").delete()
    assert reconcile(space) == Reconciliation(missing=2, surplus=1)
    assert pending(space) == {"t3", "t4"}
    assert index_pending(space) == 2
    assert verify(space) == (9, 9, 0, 0)


def test_what_is_deleting_or_pending_is_no_difference(space: EmbeddingSpace) -> None:
    space.embeddings.filter(track_id="t1").update(index_state=State.DELETING)
    space.embeddings.filter(track_id="t2").update(index_state=State.PENDING)
    assert reconcile(space) == (0, 0)
    index_pending(space)
    assert verify(space) == (9, 9, 0, 0)


def test_a_lost_collection_makes_everything_pending(space: EmbeddingSpace) -> None:
    VectorStore().drop(space.collection)
    assert reconcile(space) == Reconciliation(missing=10, surplus=0)
    assert index_pending(space) == 10


def test_a_space_that_was_never_indexed_agrees(milvus: LiteServer) -> None:
    assert reconcile(new_space("muq", 16)) == (0, 0)


def test_another_space_is_not_looked_at(space: EmbeddingSpace) -> None:
    embed(new_space("muq", 16, status="building"), unit(12, 16))
    VectorStore().upsert(space.collection, rows(1, prefix="x", dimension=16), dimension=16)
    embed(new_space("mert", 16), unit(1, 16), dtype="float16")
    assert reconcile(space) == (0, 1)


def test_differences_are_found_on_every_page(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "IDS_PER_STEP", 3)
    VectorStore().delete(space.collection, ["t0", "t5"])
    space.embeddings.filter(track_id__in=["t2", "t9"]).delete()
    asked: list[None] = []
    assert reconcile(space, lambda: asked.append(None)) == (2, 2)
    assert len(asked) >= 6  # after each page
    index_pending(space)
    assert verify(space) == (8, 8, 0, 0)


@pytest.mark.parametrize("step", [index_pending, reconcile, seal])
def test_the_lease_is_renewed_while_milvus_is_slow(
    space: EmbeddingSpace, milvus: LiteServer, step: Callable[..., object]
) -> None:
    asked: list[None] = []

    def raise_if_stopped() -> None:
        asked.append(None)
        if len(asked) == 2:
            milvus.send(signal.SIGCONT)

    milvus.send(signal.SIGSTOP)
    step(space, raise_if_stopped=raise_if_stopped)
    assert len(asked) >= 2


def test_milvus_that_goes_away_changes_nothing(space: EmbeddingSpace, milvus: LiteServer) -> None:
    milvus.end(signal.SIGKILL)
    with pytest.raises(IndexUnavailable):
        reconcile(space)
    assert not pending(space)


def test_only_a_page_of_ids_is_in_memory(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    monkeypatch.setattr(sync, "IDS_PER_STEP", 100)
    monkeypatch.setattr(VectorStore, "ids", lambda *_: (f"unknown {number}" for number in range(count)))
    monkeypatch.setattr(VectorStore, "delete", lambda *_: None)
    tracemalloc.start()
    assert reconcile(space).surplus == count
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * count * sys.getsizeof("unknown 10000")


# Others write meanwhile: at the moment that `interrupt` names, a track is embedded again.


def interrupt(monkeypatch: pytest.MonkeyPatch, method: str, action: Callable[[], Any], *, after: bool = False) -> None:
    """Do ``action`` once, just before or after Milvus's next call of this method."""
    call = getattr(VectorStore, method)

    def interrupted(store: VectorStore, *arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(VectorStore, method, call)
        if not after:
            action()
        result = call(store, *arguments, **options)
        if after:
            action()
        return result

    monkeypatch.setattr(VectorStore, method, interrupted)


def sent_but_not_marked(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch, others: Callable[[], Any]) -> None:
    """A job sends what is pending; when Milvus has it, ``others`` act; then the job marks it."""
    interrupt(monkeypatch, "flush", others, after=True)
    index_pending(space)


def assert_nothing_is_lost(space: EmbeddingSpace) -> None:
    index_pending(space)
    assert in_milvus(space) == set(space.embeddings.values_list("track_id", flat=True))
    assert not pending(space)


def test_a_surplus_track_that_is_embedded_and_indexed_just_before_its_deletion_is_sent_again(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.embeddings.filter(track_id="t3").delete()

    def job() -> None:
        embed_again(space, "t3")
        index_pending(space)

    interrupt(monkeypatch, "delete", job)
    assert reconcile(space) == (0, 1)
    assert pending(space) == {"t3"}
    assert_nothing_is_lost(space)


def remove_deleting(space: EmbeddingSpace) -> None:
    """The first step of ``index_pending``."""
    sync._remove_deleting(VectorStore(), space)


@pytest.mark.parametrize("cleaner", [reconcile, remove_deleting])
def test_a_track_that_was_sent_and_is_deleted_before_it_is_marked_is_sent_again(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch, cleaner: Callable[[EmbeddingSpace], Any]
) -> None:
    track = space.embeddings.filter(track_id="t3")
    if cleaner is reconcile:
        track.delete()
    else:
        track.update(index_state=State.DELETING)
    sent: list[Embedding] = []

    def embed_and_send() -> None:  # a job's first steps
        if cleaner is reconcile:
            embed_again(space, "t3")
        track.update(index_state=State.PENDING, updated_at=timezone.now())
        sent.append(track.get())

    interrupt(monkeypatch, "delete", embed_and_send)
    cleaner(space)
    track.filter(updated_at=sent[0].updated_at).update(index_state=State.INDEXED)  # the job's last step
    assert_nothing_is_lost(space)


def test_a_rebuild_under_a_job_that_has_just_sent_loses_nothing(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_again(space, "t3")
    sent_but_not_marked(space, monkeypatch, lambda: sync.rebuild_index(space))
    assert_nothing_is_lost(space)


def test_a_collection_that_is_lost_under_a_job_that_has_just_sent_loses_nothing(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_again(space, "t3")

    def lose() -> None:
        VectorStore().drop(space.collection)
        sync.mark_all_pending(space)

    sent_but_not_marked(space, monkeypatch, lose)
    assert_nothing_is_lost(space)


def test_a_missing_track_that_is_deleted_meanwhile_does_not_come_back(
    space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    VectorStore().delete(space.collection, ["t3"])
    deleting = space.embeddings.filter(track_id="t3")
    interrupt(monkeypatch, "held", lambda: deleting.update(index_state=State.DELETING))
    assert reconcile(space) == (0, 0)
    assert_nothing_is_lost(space)
    assert "t3" not in in_milvus(space)


def test_vectors_written_under_a_space_that_is_dropped_bring_no_collection_back(space: EmbeddingSpace) -> None:
    EmbeddingSpace.objects.update(status="dropping")
    VectorStore().drop(space.collection)
    assert index_pending(space) == 0
    assert space.collection not in VectorStore().collections()


def test_held_ids_are_those_that_have_a_row(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.index.store.IDS_PER_CALL", 4)
    ids: NDArray[Any] = np.array([f"t{number}" for number in range(5, 15)])
    assert VectorStore().held(space.collection, ids.tolist()) == {f"t{number}" for number in range(5, 10)}
    assert VectorStore().held(space.collection, []) == set()
