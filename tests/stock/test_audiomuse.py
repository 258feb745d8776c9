"""AudioMuse-AI's plugins get from us what they read: the very addresses, parameters and fields that they use."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.search.conftest import Library, row
from tests.stock.conftest import Ask
from tests.stock.test_similar import credit

pytestmark = pytest.mark.django_db

SIMILAR = "/api/similar_tracks"
AS_SENT = {"eliminate_duplicates": "true", "radius_similarity": "true"}


def test_similar_tracks_as_the_plugins_read_them(ask: Ask, music: Library) -> None:
    songs = ask(SIMILAR, item_id="t01", n="5", **AS_SENT)
    assert len(songs) == 5
    assert songs[0].keys() == {"item_id", "title", "author", "album", "distance"}
    assert [each["distance"] for each in songs] == sorted(each["distance"] for each in songs)


def test_unknown_track_has_no_similar_ones(ask: Ask, music: Library) -> None:
    assert ask(SIMILAR, item_id="nobody", n="5", **AS_SENT) == []


@pytest.mark.parametrize("address", [SIMILAR, "/api/find_path", "/api/similar_artists"])
def test_nobody_is_answered_without_a_token(db: None, address: str) -> None:
    assert Client().get(address, {"item_id": "t01"}).status_code == 401


def test_path_as_the_plugin_for_navidrome_asks(ask: Ask, music: Library) -> None:
    sent = {"count": "6", "max_steps": "6", "path_fix_size": "false", "mood_pct": "100"}
    songs = ask("/api/find_path", start_song_id="t00", end_song_id="t12", **sent)["path"]
    assert [songs[0]["item_id"], songs[-1]["item_id"], len(songs)] == ["t00", "t12", 6]
    assert songs[0].keys() == {"item_id", "title", "author", "album", "distance"}


def test_path_from_an_unknown_track_is_empty(ask: Ask, music: Library) -> None:
    assert ask("/api/find_path", start_song_id="nobody", end_song_id="t12") == {"path": []}


def test_similar_artists_with_songs_of_both(ask: Ask, music: Library) -> None:
    credit(music, t01=("a1", "artist"), t10=("a1", "artist"))
    found = ask("/api/similar_artists", artist="a1", n="3", include_component_matches="true")
    assert (len(found), found[0].keys()) == (3, {"artist", "artist_id", "divergence", "component_matches"})
    (match,) = found[0]["component_matches"]
    assert [each["item_id"] for each in match["artist1_representative_songs"]] == ["t01", "t10"]
    assert match["artist2_representative_songs"][0].keys() == {"item_id", "title"}


def test_similar_artists_without_songs(ask: Ask, music: Library) -> None:
    credit(music, t01=("a1", "artist"))
    found = ask("/api/similar_artists", artist="a1", include_component_matches="false")
    assert "component_matches" not in found[0]
    assert ask("/api/similar_artists", artist="nobody") == []


def test_no_more_than_five_of_an_artist_unless_wanted(ask: Ask, music: Library) -> None:
    music.tell({i: row(int(i[1:]), artist="One", artist_id="one") for i in music.world.tracks})
    assert [len(ask(SIMILAR, item_id="t01", n="20", **given)) for given in ({}, AS_SENT)] == [5, 5]
    assert len(ask(SIMILAR, item_id="t01", n="20", eliminate_duplicates="false")) == 20


@pytest.mark.parametrize(("number", "found"), [("0", 1), ("-5", 1), ("100000", 29)])
def test_odd_numbers_are_understood(ask: Ask, music: Library, number: str, found: int) -> None:
    assert len(ask(SIMILAR, item_id="t01", n=number)) == found
