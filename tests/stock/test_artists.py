"""Artists like an artist."""

from __future__ import annotations

import pytest

from embeddings.models import Track
from tests.search.conftest import Library, row
from tests.stock.conftest import Ask
from tests.stock.test_similar import credit

pytestmark = pytest.mark.django_db

URL = "/api/v1/artists/similar"


@pytest.fixture
def credited(music: Library) -> Library:
    """Nine artists in Navidrome, of about three tracks each."""
    credit(music, **{i: (f"a{int(i[1:]) % 9}", "artist") for i in music.world.tracks})
    return music


def test_others_come_best_first_with_their_names(ask: Ask, credited: Library) -> None:
    found = ask(URL, artist="a1")["results"]
    assert sorted(each["id"] for each in found) == [f"a{number}" for number in (0, 2, 3, 4, 5, 6, 7, 8)]
    assert [each["name"] for each in found] == [each["id"].upper() for each in found]
    assert [each["score"] for each in found] == sorted((each["score"] for each in found), reverse=True)


def test_artist_of_the_same_music_comes_first(ask: Ask, credited: Library) -> None:
    copies = {f"t{number:02}": f"t{number - 1:02}" for number in range(3, 30, 8)}
    music = {i: row(int(i[1:])) for i in credited.world.tracks}
    credited.tell(music | {copy: music[copy] | {"artist": "Twin", "artist_id": "twin"} for copy in copies})
    credit(credited, **dict.fromkeys(copies.values(), ("one", "artist")))
    assert ask(URL, artist="one", limit=1)["results"][0]["name"] == "Twin"


def test_artist_is_also_known_by_name(ask: Ask, credited: Library) -> None:
    Track.objects.filter(pk__in=("t01", "t10", "t19")).update(artist="Artist 1")
    names = [each["id"] for each in ask(URL, artist="Artist 1")["results"]]
    assert names
    assert "a1" not in names


def test_unknown_artist_has_nobody_like_him(ask: Ask, credited: Library) -> None:
    assert ask(URL, artist="nobody")["results"] == []


def test_answer_without_navidromes_database(ask: Ask, credited: Library) -> None:
    credited.navidrome.unlink()
    assert ask(URL, artist="a1")["results"] == []
