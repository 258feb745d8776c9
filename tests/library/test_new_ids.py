"""What names a track names it by its new id."""

from __future__ import annotations

from typing import Any

import pytest

from embeddings.library.new_ids import follow_moved
from embeddings.models import Playlist, PlaylistTrack
from embeddings.spaces.reuse import reuse_known_audio, take_over_moved
from tests.batches.rows import make_embedding, make_space, make_track

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def raise_if_stopped() -> None:
    """Stops nobody."""


@pytest.fixture
def named() -> PlaylistTrack:
    """A track of a recipe that is gone."""
    track = make_track("old", path="/music/song.flac", playable=False)
    playlist = Playlist.objects.create(name="Night", user="ann", recipe={})
    return PlaylistTrack.objects.create(playlist=playlist, role="like", place=0, track=track)


def now_names(named: PlaylistTrack) -> str:
    named.refresh_from_db()
    return named.track_id


def test_a_recipe_follows_the_vector_of_the_same_file(named: PlaylistTrack) -> None:
    make_embedding(space := make_space(), named.track)
    make_track("new", path="/music/song.flac")
    take_over_moved(space, raise_if_stopped)
    assert now_names(named) == "new"


def test_a_recipe_follows_the_vector_of_the_same_audio(named: PlaylistTrack) -> None:
    make_embedding(space := make_space(), named.track, audio_hash="h")
    moved = make_track("new", path="/music/elsewhere.flac", mtime="2026", size=7)
    reuse_known_audio(space, {moved: "h"})
    assert now_names(named) == "new"


def test_a_recipe_follows_a_file_that_has_no_vector(named: PlaylistTrack) -> None:
    make_track("new", path="/music/song.flac")
    follow_moved(raise_if_stopped)
    assert now_names(named) == "new"


@pytest.mark.parametrize("other", [{"path": "/music/other.flac"}, {"size": 7}, {"mtime": "2031"}, {"playable": False}])
def test_a_recipe_stays_with_what_another_file_does_not_replace(named: PlaylistTrack, other: dict[str, Any]) -> None:
    make_track("new", **{"path": "/music/song.flac"} | other)
    follow_moved(raise_if_stopped)
    assert now_names(named) == "old"
