"""The checks before a build becomes live, and what it takes over from its predecessor."""

from __future__ import annotations

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from embeddings.errors import IndexUnavailable, NoSuchSpace, SwitchRefused
from embeddings.index.store import VectorStore
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.promotion import Examination, TrackIds, approve, examine, keep_old_vectors
from embeddings.spaces.vectors import from_bytes, to_bytes
from tests.index.conftest import unit
from tests.milvus import LiteServer
from tests.spaces.conftest import DIMENSION, embed, indexed, make_space, make_tracks, statuses

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def build(db: None, milvus: LiteServer) -> EmbeddingSpace:
    """A build of 30 tracks, all of it in Milvus."""
    return indexed(make_space("new", "building", vectors=30))


def failed(*ids: str) -> TrackIds:
    return Track.objects.filter(pk__in=ids).values_list("pk", flat=True)


def damage(space: EmbeddingSpace, track_id: str, vector: bytes) -> Examination:
    space.embeddings.filter(track_id=track_id).update(vector=vector)
    return examine(space, failed())


def test_sound_build_passes(build: EmbeddingSpace) -> None:
    assert examine(build, failed()) == Examination((), needs_yes=False, overlap=None)


def test_track_without_vector_and_error_stands_in_the_way(build: EmbeddingSpace) -> None:
    make_tracks(["u1", "u2"])
    found = examine(build, failed("u2"))
    assert found.problems[0] == "1 of 32 playable tracks have neither a vector nor an error"
    assert not found.needs_yes


def test_track_that_is_gone_needs_no_vector(build: EmbeddingSpace) -> None:
    make_tracks(["gone"])
    Track.objects.filter(pk="gone").update(playable=False)
    assert examine(build, failed()).passed


def test_vector_that_is_being_deleted_does_not_count(build: EmbeddingSpace) -> None:
    build.embeddings.filter(track_id="t0").update(index_state="deleting")
    assert "1 of 30 playable tracks have neither" in examine(build, failed()).problems[0]


def have_live_vectors(*ids: str) -> None:
    """Tracks that search finds now."""
    embed(make_space("old"), unit(len(ids), DIMENSION), ids)


def test_more_losses_than_one_in_a_hundred_need_a_human(build: EmbeddingSpace) -> None:
    have_live_vectors("u1")
    found = examine(build, failed("u1"))
    assert found.problems == ("1 of 31 tracks (3.2%) have a vector now and would lose it, more than 1%",)
    assert found.needs_yes


def test_what_search_lacks_already_is_no_loss(build: EmbeddingSpace) -> None:
    have_live_vectors("t1")
    make_tracks(["u1", "u2", "u3"])
    assert examine(build, failed("u1", "u2", "u3")).passed


def test_few_losses_need_nobody(build: EmbeddingSpace) -> None:
    embed(build, unit(70, DIMENSION, seed=1), [f"v{n}" for n in range(70)])
    have_live_vectors("u1")
    assert examine(indexed(build), failed("u1")).passed


def test_failures_beside_another_problem_are_beyond_a_yes(build: EmbeddingSpace) -> None:
    have_live_vectors("u1", "u2")
    found = examine(build, failed("u1"))
    assert (len(found.problems), found.needs_yes) == (2, False)


def test_short_vector_is_found(build: EmbeddingSpace) -> None:
    found = damage(build, "t3", b"\0\0\x80?" * 3)
    assert "1 vectors have not 16 numbers" in found.problems


@pytest.mark.parametrize("factor", [1.01, 0.5])
def test_vector_of_another_length_than_one_is_found(build: EmbeddingSpace, factor: float) -> None:
    found = damage(build, "t3", to_bytes(np.float32(factor) * unit(1, DIMENSION)[0], "float32"))
    assert found.problems == ("1 of 30 vectors that were looked at are not of unit length",)


def test_vector_that_is_not_finite_is_found(build: EmbeddingSpace) -> None:
    assert "unit length" in damage(build, "t3", np.full(DIMENSION, np.nan, np.float32).tobytes()).problems[0]


def test_half_precision_is_precise_enough(milvus: LiteServer) -> None:
    space = make_space("new", "building", model="mert", vectors=20)
    assert examine(indexed(space), failed()).passed


def test_what_is_not_yet_in_milvus_stands_in_the_way(build: EmbeddingSpace) -> None:
    build.embeddings.filter(track_id__in=["t1", "t2"]).update(index_state="pending")
    assert examine(build, failed()).problems == ("2 vectors are not in Milvus yet",)


@pytest.mark.parametrize("how", ["another's vector", "absent"])
def test_track_that_does_not_find_itself_is_found(build: EmbeddingSpace, how: str) -> None:
    if how == "absent":
        VectorStore().delete(build.collection, ["t7"])
    else:
        build.embeddings.filter(track_id="t7").update(vector=to_bytes(unit(1, DIMENSION, seed=9)[0], "float32"))
    assert examine(build, failed()).problems == ("1 of 30 tracks do not find themselves first in Milvus",)


@pytest.mark.parametrize("copies", [2, 20])
def test_copies_of_the_same_audio_find_each_other(build: EmbeddingSpace, copies: int) -> None:
    embed(build, np.tile(unit(1, DIMENSION, seed=5), (copies, 1)), [f"copy{n}" for n in range(copies)])
    assert examine(indexed(build), failed()).passed


def test_overlap_is_one_where_nothing_has_changed_and_less_where_it_has(build: EmbeddingSpace) -> None:
    indexed(make_space("old", vectors=30))
    assert examine(build, failed()).overlap == 1
    other = indexed(make_space("new", "building", model="mert"))
    embed(other, unit(30, DIMENSION, seed=4))
    indexed(make_space("old", model="mert", vectors=30))
    overlap = examine(indexed(other), failed()).overlap
    assert overlap is not None
    assert 0.1 < overlap < 0.6  # 10 of 29 by chance


def test_overlap_counts_only_tracks_that_both_have(build: EmbeddingSpace) -> None:
    """What is new among the neighbours, or lacks now, does not make the vectors other ones."""
    old = make_space("old", vectors=30)
    embed(old, unit(30, DIMENSION), [f"gone{n}" for n in range(30)])
    indexed(old)
    Track.objects.filter(pk__startswith="gone").update(playable=False)
    embed(build, unit(30, DIMENSION), [f"new{n}" for n in range(30)])
    assert examine(indexed(build), failed()).overlap == 1


def test_old_space_that_milvus_has_lost_is_no_hindrance(build: EmbeddingSpace) -> None:
    make_space("old", vectors=30)
    assert examine(build, failed()) == Examination((), needs_yes=False, overlap=None)


def test_build_without_vectors_never_takes_the_place_of_a_full_one(milvus: LiteServer) -> None:
    make_space("old", vectors=3)
    Track.objects.update(playable=False)
    assert "it holds no vectors" in examine(make_space("new", "building"), failed()).problems


def test_milvus_that_is_away_is_no_verdict(build: EmbeddingSpace) -> None:
    VectorStore().drop(build.collection)
    with pytest.raises(IndexUnavailable):
        examine(build, failed())


def test_examination_costs_as_many_queries_for_more_tracks(
    build: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embeddings.spaces.promotion.SEARCH_SAMPLE", 5)
    with CaptureQueriesContext(connection) as few:
        examine(build, failed())
    embed(build, unit(300, DIMENSION, seed=1), [f"v{n}" for n in range(300)])
    indexed(build)
    with CaptureQueriesContext(connection) as many:
        examine(build, failed())
    assert len(many) == len(few)


# A human's yes


def test_yes_lets_a_build_with_failures_go_live(build: EmbeddingSpace) -> None:
    have_live_vectors("u1", "u2")
    assert approve("muq").needs_yes
    assert statuses() == ["live", "kept"]


def test_yes_does_not_help_a_damaged_or_unfinished_build(build: EmbeddingSpace) -> None:
    make_space("old", vectors=3)
    build.embeddings.filter(track_id="t0").update(index_state="pending")
    with pytest.raises(SwitchRefused, match="1 vectors are not in Milvus"):
        approve("muq")
    make_tracks(f"u{n}" for n in range(31))
    with pytest.raises(SwitchRefused, match="31 of 61 tracks: it is not finished"):
        approve("muq")
    assert statuses() == ["building", "live"]


def test_yes_to_nothing_says_so() -> None:
    make_space("old")
    with pytest.raises(NoSuchSpace, match="no muq vectors are being built"):
        approve("muq")


# Failed tracks keep their old vectors


@pytest.fixture
def anew() -> EmbeddingSpace:
    """An empty build with the live space's weights; t0 to t4 are live."""
    make_space("new", vectors=5)
    return make_space("new", "building")


def test_failed_tracks_keep_their_old_vectors(anew: EmbeddingSpace) -> None:
    assert keep_old_vectors(anew, failed("t1", "t3")) == 2
    rows = dict(anew.embeddings.values_list("track_id", "vector"))
    np.testing.assert_array_equal(from_bytes(rows["t3"], "float32", DIMENSION), unit(5, DIMENSION)[3])
    assert set(anew.embeddings.values_list("index_state", "track_id")) == {("pending", "t1"), ("pending", "t3")}
    assert keep_old_vectors(anew, failed("t1", "t3")) == 0


def test_vectors_of_other_weights_are_never_kept() -> None:
    make_space("old", vectors=5)
    assert keep_old_vectors(make_space("new", "building"), failed("t1")) == 0


@pytest.mark.parametrize("change", [{"size": 2}, {"mtime": "later"}, {"playable": False}])
def test_vector_of_another_file_is_not_kept(anew: EmbeddingSpace, change: dict[str, object]) -> None:
    Track.objects.filter(pk="t1").update(**change)
    assert keep_old_vectors(anew, failed("t1", "t3")) == 1


def test_vectors_of_what_is_away_are_kept_also_when_everything_is_built_anew(anew: EmbeddingSpace) -> None:
    Track.objects.filter(pk="t2").update(playable=False, away_since=timezone.now())
    assert keep_old_vectors(anew, failed()) == 1
    assert anew.embeddings.get().track_id == "t2"


def test_vector_that_the_build_has_is_not_overwritten(anew: EmbeddingSpace) -> None:
    embed(anew, unit(1, DIMENSION, seed=8), ["t1"])
    before = anew.embeddings.get().vector
    assert keep_old_vectors(anew, failed("t1")) == 0
    assert bytes(anew.embeddings.get().vector) == bytes(before)


def test_vectors_are_kept_in_slices(anew: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.spaces.promotion.SLICE_BYTES", 2 * 4 * DIMENSION)
    Embedding.objects.filter(track_id="t4").update(index_state="deleting")
    asked: list[None] = []
    given_up = failed(*(f"t{n}" for n in range(5)))
    assert keep_old_vectors(anew, given_up, raise_if_stopped=lambda: asked.append(None)) == 4
    assert len(asked) == 2


def test_nothing_is_kept_where_the_build_is_already_live(anew: EmbeddingSpace) -> None:
    live = EmbeddingSpace.objects.get(status="live")
    assert keep_old_vectors(live, failed("t1")) == 0
