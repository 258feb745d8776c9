"""Vectors that change hands instead of being computed again, and those that leave."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces import reuse
from embeddings.spaces.pruning import prune
from embeddings.spaces.reuse import has_orphans, orphans, reuse_known_audio, take_over_moved
from tests.batches.rows import make_embedding, make_space, make_track

pytestmark = [pytest.mark.django_db, pytest.mark.database]

DELETING = Embedding.IndexState.DELETING
PATH = "/music/song.flac"


def raise_if_stopped() -> None:
    """Stops nobody."""


@pytest.fixture
def space() -> EmbeddingSpace:
    return make_space()


def gone(space: EmbeddingSpace, track_id: str = "old", **fields: Any) -> Embedding:
    """The vector of a track that the last scan did not find."""
    track = make_track(track_id, **{"path": PATH, "playable": False} | fields)
    return make_embedding(space, track, audio_hash="h", index_state="indexed", vector=track_id.encode())


def owners(space: EmbeddingSpace) -> dict[str, bytes]:
    """Who has which vector."""
    rows = space.embeddings.exclude(index_state=DELETING).values_list("track_id", "vector")
    return {track_id: bytes(vector) for track_id, vector in rows}


# A new id for the same file


def test_a_new_id_takes_over_the_vector_of_the_same_file(space: EmbeddingSpace) -> None:
    gone(space)
    make_track("new", path=PATH)
    assert take_over_moved(space, raise_if_stopped) == 1
    assert owners(space) == {"new": b"old"}
    assert space.embeddings.get(track_id="new").index_state == "pending"


def test_milvus_is_told_to_forget_the_old_id(space: EmbeddingSpace) -> None:
    gone(space)
    make_track("new", path=PATH)
    take_over_moved(space, raise_if_stopped)
    assert space.embeddings.get(track_id="old").index_state == DELETING


@pytest.mark.parametrize("other", [{"path": "/music/other.flac"}, {"size": 7}, {"mtime": "2031"}, {"playable": False}])
def test_another_file_takes_nothing_over(space: EmbeddingSpace, other: dict[str, Any]) -> None:
    gone(space)
    make_track("new", **{"path": PATH} | other)
    assert take_over_moved(space, raise_if_stopped) == 0
    assert owners(space) == {"old": b"old"}


def test_a_vector_of_an_older_file_is_not_taken_over(space: EmbeddingSpace) -> None:
    Embedding.objects.filter(pk=gone(space).pk).update(mtime="2001")
    make_track("new", path=PATH)
    assert take_over_moved(space, raise_if_stopped) == 0


def test_a_playable_track_keeps_its_vector(space: EmbeddingSpace) -> None:
    gone(space, playable=True)
    make_track("new", path=PATH)
    assert take_over_moved(space, raise_if_stopped) == 0


def test_a_track_with_a_vector_takes_nothing_over(space: EmbeddingSpace) -> None:
    gone(space)
    make_embedding(space, make_track("new", path=PATH), vector=b"mine")
    assert take_over_moved(space, raise_if_stopped) == 0
    assert owners(space)["new"] == b"mine"


def test_each_library_gets_its_own_vector(space: EmbeddingSpace) -> None:
    for number in (1, 2):
        gone(space, f"old{number}", library_id=number)
    for number in (2, 1):
        make_track(f"new{3 - number}", path=PATH, library_id=number)
    assert take_over_moved(space, raise_if_stopped) == 2
    assert owners(space) == {"new1": b"old2", "new2": b"old1"}


def test_a_vector_of_another_library_is_better_than_none(space: EmbeddingSpace) -> None:
    gone(space, library_id=2)
    make_track("new", path=PATH, library_id=1)
    assert take_over_moved(space, raise_if_stopped) == 1


def test_one_vector_is_taken_over_once(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "TRACKS_A_SLICE", 1)
    gone(space)
    for name in ("new1", "new2", "new3"):
        make_track(name, path=PATH)
    assert take_over_moved(space, raise_if_stopped) == 1
    assert owners(space) == {"new1": b"old"}


def test_many_slices_move_everything(space: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "TRACKS_A_SLICE", 3)
    for number in range(10):
        gone(space, f"old{number}", path=f"/music/{number}.flac")
        make_track(f"new{number}", path=f"/music/{number}.flac")
    assert take_over_moved(space, raise_if_stopped) == 10
    assert owners(space) == {f"new{number}": b"old%d" % number for number in range(10)}
    assert take_over_moved(space, raise_if_stopped) == 0


def test_other_spaces_are_left_alone(space: EmbeddingSpace) -> None:
    other = make_space("mert")
    gone(other)
    make_track("new", path=PATH)
    assert take_over_moved(space, raise_if_stopped) == 0
    assert owners(other) == {"old": b"old"}


def test_who_has_lost_the_lease_moves_nothing(space: EmbeddingSpace) -> None:
    def lost() -> None:
        raise RuntimeError

    gone(space)
    make_track("new", path=PATH)
    for attempt in (lambda: take_over_moved(space, lost), lambda: prune(space, lost, force=True)):
        with pytest.raises(RuntimeError):
            attempt()
    assert owners(space) == {"old": b"old"}


def test_a_track_that_comes_back_in_time_keeps_its_vector(space: EmbeddingSpace) -> None:
    embedding = gone(space)
    prune(space, raise_if_stopped, force=True)
    Track.objects.update(playable=True)
    take_over_moved(space, raise_if_stopped)
    embedding.refresh_from_db()
    assert (embedding.index_state, embedding.updated_at < timezone.now()) == ("pending", True)


def test_a_track_that_comes_back_without_its_vector_gets_none(space: EmbeddingSpace) -> None:
    gone(space)
    make_track("new", path=PATH)
    take_over_moved(space, raise_if_stopped)
    Track.objects.update(playable=True)
    take_over_moved(space, raise_if_stopped)
    assert owners(space) == {"new": b"old"}


# The same audio in another file


def test_edited_tags_only_bring_the_vector_up_to_date(space: EmbeddingSpace) -> None:
    track = make_track("a", size=2000, mtime="2031")
    make_embedding(space, track, size=1000, mtime="2024", audio_hash="h", index_state="indexed", vector=b"mine")
    assert reuse_known_audio(space, {track: "h"}) == {"a"}
    row = space.embeddings.get()
    assert (row.size, row.mtime, bytes(row.vector), row.index_state) == (2000, "2031", b"mine", "pending")


def test_changed_audio_is_not_reused(space: EmbeddingSpace) -> None:
    track = make_track("a", size=2000)
    make_embedding(space, track, size=1000, audio_hash="h")
    assert reuse_known_audio(space, {track: "other"}) == set()
    assert space.embeddings.get().size == 1000


def test_moved_audio_takes_the_vector_over(space: EmbeddingSpace) -> None:
    gone(space)
    new = make_track("new", path="/music/elsewhere.flac", size=5, mtime="2031")
    assert reuse_known_audio(space, {new: "h"}) == {"new"}
    row = space.embeddings.get(track_id="new")
    assert (bytes(row.vector), row.size, row.mtime, row.audio_hash) == (b"old", 5, "2031", "h")


def test_audio_of_a_track_without_a_row_is_reused(space: EmbeddingSpace) -> None:
    gone(space)
    Track.objects.all().delete()
    assert reuse_known_audio(space, {make_track("new"): "h"}) == {"new"}
    assert owners(space) == {"new": b"old"}


def test_audio_of_a_playable_track_is_not_taken(space: EmbeddingSpace) -> None:
    gone(space, playable=True)
    assert reuse_known_audio(space, {make_track("copy"): "h"}) == set()
    assert owners(space) == {"old": b"old"}


def test_of_two_copies_one_takes_the_vector_over(space: EmbeddingSpace) -> None:
    gone(space)
    copies = {make_track(name): "h" for name in ("new1", "new2")}
    assert len(reuse_known_audio(space, copies)) == 1
    assert len(owners(space)) == 1


def test_the_same_audio_stays_in_its_library(space: EmbeddingSpace) -> None:
    for number in (1, 2):
        gone(space, f"old{number}", library_id=number)
    new = {make_track(f"new{number}", library_id=number): "h" for number in (2, 1)}
    assert reuse_known_audio(space, new) == {"new1", "new2"}
    assert owners(space) == {"new1": b"old1", "new2": b"old2"}


def test_an_unknown_hash_matches_nothing(space: EmbeddingSpace) -> None:
    gone(space)
    changed = make_track("a", size=2000)
    make_embedding(space, changed, size=1000, audio_hash="")
    Embedding.objects.update(audio_hash="")
    assert reuse_known_audio(space, {changed: "", make_track("new"): ""}) == set()
    assert sorted(owners(space)) == ["a", "old"]


def test_audio_known_in_another_space_is_not_reused(space: EmbeddingSpace) -> None:
    other = make_space("mert")
    gone(other)
    assert reuse_known_audio(space, {make_track("new"): "h"}) == set()
    assert owners(other) == {"old": b"old"}


# What is left over


def test_vectors_of_playable_tracks_are_no_orphans(space: EmbeddingSpace) -> None:
    make_embedding(space, make_track("a"))
    assert (has_orphans(space), orphans(space)) == (False, [])


@pytest.mark.parametrize("without_row", [False, True])
def test_vectors_of_gone_tracks_are_orphans_until_they_leave(space: EmbeddingSpace, without_row: bool) -> None:
    embedding = gone(space)
    if without_row:
        Track.objects.all().delete()
    assert (has_orphans(space), orphans(space)) == (True, [embedding.pk])
    prune(space, raise_if_stopped, force=True)
    assert (has_orphans(space), orphans(space)) == (False, [])


def test_the_gone_leave_and_the_others_stay(space: EmbeddingSpace) -> None:
    gone(space)
    make_embedding(space, make_track("a"))
    assert prune(space, raise_if_stopped) == (1, "")
    assert list(owners(space)) == ["a"]


def test_when_most_are_gone_nothing_leaves_and_a_human_is_asked(space: EmbeddingSpace) -> None:
    for number in range(2):
        gone(space, f"old{number}")
    make_embedding(space, make_track("a"))
    pruned, held = prune(space, raise_if_stopped)
    assert (pruned, len(owners(space))) == (0, 3)
    assert "2 of 3 muq embeddings" in held
    assert "prune --yes" in held


def test_what_is_leaving_already_does_not_count(space: EmbeddingSpace) -> None:
    gone(space)
    prune(space, raise_if_stopped, force=True)
    gone(space, "old2")
    make_embedding(space, make_track("a"))
    assert prune(space, raise_if_stopped) == (1, "")


def test_a_human_may_prune_everything(space: EmbeddingSpace) -> None:
    gone(space)
    assert prune(space, raise_if_stopped, force=True) == (1, "")
    assert prune(space, raise_if_stopped) == (0, "")
