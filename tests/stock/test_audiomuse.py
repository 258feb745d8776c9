"""AudioMuse-AI's plugins get from us what they read: the very addresses, parameters and fields that they use."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.search.conftest import Library
from tests.stock.conftest import Ask

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


@pytest.mark.parametrize("address", [SIMILAR])
def test_nobody_is_answered_without_a_token(db: None, address: str) -> None:
    assert Client().get(address, {"item_id": "t01"}).status_code == 401
