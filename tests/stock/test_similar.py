"""Music like a track, an album or an artist, as players ask for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from django.test import Client

from embeddings.models import Track
from embeddings.search.calibration import Calibration
from embeddings.search.comparing import Probe
from embeddings.search.neighbours import nearest_to_track
from embeddings.search.seeds import grouped
from tests.search.conftest import Library, row
from tests.stock.conftest import Ask

pytestmark = pytest.mark.django_db

URL = "/api/v1/similar"


def ids(answer: Mapping[str, Any]) -> list[str]:
    return [each["id"] for each in answer["results"]]


def column(library: Library, name: str, values: Mapping[str, str]) -> None:
    """Let Navidrome say this of some tracks."""
    with closing(sqlite3.connect(library.navidrome)) as connection:
        connection.executemany(
            f"UPDATE media_file SET {name} = ? WHERE id = ?", [(value, i) for i, value in values.items()]
        )
        connection.commit()


def credit(library: Library, **artists: tuple[str, str]) -> None:
    """Let artists take part in tracks: track=(artist, role)."""
    with closing(sqlite3.connect(library.navidrome)) as connection:
        for track, (artist, role) in artists.items():
            connection.execute("INSERT OR IGNORE INTO artist (id, name) VALUES (?, ?)", (artist, artist.upper()))
            connection.execute("INSERT INTO media_file_artists VALUES (?, ?, ?, '')", (track, artist, role))
        connection.commit()


@pytest.mark.database
def test_track_gets_its_neighbours(ask: Ask, music: Library) -> None:
    answer = ask(URL, track="t01", limit=8, per_artist=0)
    assert ids(answer) == [each.track_id for each in nearest_to_track("muq", "t01", 8)]
    assert answer["results"][0].keys() == {"id", "title", "artist", "album", "duration", "score"}


@pytest.mark.parametrize("asked", [{"track": "nobody"}, {"album": "nobody"}, {"artist": "nobody"}])
def test_unknown_gets_an_empty_answer(ask: Ask, music: Library, asked: dict[str, str]) -> None:
    assert ask(URL, **asked)["results"] == []


def test_album_gets_tracks_of_others(ask: Ask, music: Library) -> None:
    column(music, "album_id", dict.fromkeys(("t01", "t02", "t03"), "al"))
    found = ids(ask(URL, album="al"))
    assert found
    assert {"t01", "t02", "t03"}.isdisjoint(found)


def test_artist_gets_some_of_his_own(ask: Ask, music: Library) -> None:
    own = [f"t{number:02}" for number in range(0, 27, 9)]
    credit(music, **dict.fromkeys(own, ("a0", "artist")), t05=("a0", "producer"))
    found = ids(ask(URL, artist="a0", per_artist=2, limit=20))
    assert 0 < len(set(own) & set(found)) <= 2
    assert len(found) > 10


def test_artist_is_also_known_by_name(ask: Ask, music: Library) -> None:
    Track.objects.filter(pk__in=("t01", "t02")).update(artist="Erik Satie")
    assert ids(ask(URL, artist="Erik Satie"))


def test_no_more_of_an_artist_than_wanted(ask: Ask, music: Library) -> None:
    found = ids(ask(URL, track="t01", limit=30, per_artist=1))
    artists = [int(each[1:]) % 9 for each in found]
    assert len(found) == len(set(artists)) == 9


def test_long_tracks_are_left_out_and_others_come_instead(ask: Ask, music: Library) -> None:
    near = ids(ask(URL, track="t01", limit=5, per_artist=0))
    Track.objects.filter(pk__in=near[:3]).update(duration=601)
    found = ids(ask(URL, track="t01", limit=5, per_artist=0, max_duration=600))
    assert (len(found), found[:2]) == (5, near[3:])


def test_other_files_of_the_same_recording_do_not_come(ask: Ask, music: Library) -> None:
    same = {"title": "Gnossienne No. 3", "artist": "Erik Satie"}
    Track.objects.filter(pk="t01").update(**same)
    music.tell({i: row(int(i[1:])) | (same if i in ("t01", "t07") else {}) for i in music.world.tracks})
    assert "t07" not in ids(ask(URL, track="t01", limit=30, per_artist=0))


def test_user_gets_what_he_may_see(ask: Ask, music: Library) -> None:
    assert all(int(each[1:]) % 5 != 4 for each in ids(ask(URL, track="t01", user="ann", limit=30)))
    assert ask(URL, track="t01", library_ids=7)["results"] == []


def test_all_models_answer_together(ask: Ask, music: Library) -> None:
    assert ids(ask(URL, track="t01", models=["muq", "mert"])) != ids(ask(URL, track="t01"))


def test_answer_that_one_has_is_not_sent_again(secret: str, music: Library) -> None:
    client = Client(HTTP_AUTHORIZATION=f"Bearer {secret}")
    first = client.get(URL, {"track": "t01"})
    again = client.get(URL, {"track": "t01"}, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "asked", [{}, {"track": "a", "artist": "b"}, {"track": "a", "models": "vggish"}, {"track": "a", "limit": 501}]
)
def test_wrong_question_is_told(secret: str, asked: dict[str, str]) -> None:
    reply = Client(HTTP_AUTHORIZATION=f"Bearer {secret}").get(URL, asked)
    assert (reply.status_code, reply["Content-Type"]) == (400, "application/problem+json")


def test_answer_without_navidromes_database(ask: Ask, music: Library) -> None:
    music.navidrome.unlink()
    assert ask(URL, album="al")["results"] == []
    assert ids(ask(URL, track="t01"))


def of(*angles: float) -> list[Probe]:
    return [Probe(np.array([np.cos(angle), np.sin(angle)])) for angle in angles]


def test_uniform_album_is_one_group_and_a_varied_one_several() -> None:
    alike = Calibration(0.5, 0.2).cosine(0.9)
    assert len(grouped(of(0, 0.1, 0.2), alike)) == 1
    assert len(grouped(of(0, 0.1, 1.6, 1.7), alike)) == 2
    assert len(grouped(of(0, 0.1, 0.2))) == 3


def test_cosine_of_a_share() -> None:
    measure = Calibration(0.3, 0.1)
    assert measure.share(np.array(measure.cosine(0.9))) == pytest.approx(0.9)
