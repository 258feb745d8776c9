"""``manage.py playlist`` against a music server."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from embeddings.maps.groups import group_of
from embeddings.maps.making import make_map
from embeddings.models import EmbeddingSpace, Playlist
from embeddings.playlists.recipe import kept
from embeddings.search.path import path
from embeddings.search.query import Query, Seed
from embeddings.search.recommend import recommend
from tests.search.conftest import Library
from tests.subsonic import SubsonicServer

pytestmark = pytest.mark.django_db


def playlist(*arguments: str) -> str:
    out = StringIO()
    call_command("playlist", *arguments, stdout=out)
    return out.getvalue()


def like_t10(limit: int, user: str) -> list[str]:
    return [each.track_id for each in recommend(Query(seeds=[Seed("t10")], limit=limit, user_id=user)).tracks]


def test_a_playlist_is_made_private_and_says_how_it_came_about(music: Library, server: SubsonicServer) -> None:
    assert playlist("Night", "--like", "t10", "--limit", "4") == "Night has 4 tracks, and is in ann's playlists.\n"
    [made] = server.playlists.values()
    assert (made["name"], made["owner"], made["public"]) == ("Night", "ann", False)
    assert made["songs"] == like_t10(4, "ann")
    assert made["comment"].startswith("Made by navembed: sounds like t10. 20")


def test_made_again_it_is_updated_in_place(music: Library, server: SubsonicServer) -> None:
    playlist("Night", "--like", "t10", "--limit", "4")
    [made] = server.playlists.values()
    made.update(name="Nights of mine", public=True)
    playlist("Night", "--like", "t11", "t12", "--limit", "6")
    [updated] = server.playlists.values()
    assert updated == made
    assert (updated["name"], updated["public"], len(updated["songs"])) == ("Nights of mine", True, 6)
    assert "sounds like t11, t12." in updated["comment"]
    assert Playlist.objects.count() == 1


def test_a_path_leads_from_one_track_to_another(music: Library, server: SubsonicServer) -> None:
    playlist("Way", "--path", "t10", "t25", "--limit", "5")
    [made] = server.playlists.values()
    query = Query(models=["muq"], limit=5, user_id="ann")
    assert made["songs"] == [step.track_id for step in path("t10", "t25", query).steps]
    assert made["comment"].startswith("Made by navembed: leads from t10 to t25.")
    assert kept(Playlist.objects.get()).path == ["t10", "t25"]


def test_a_group_of_the_map_has_those_in_its_middle_first(music: Library, server: SubsonicServer) -> None:
    with pytest.raises(CommandError, match="not on the map of muq"):
        playlist("Group", "--cluster", "t10")
    space = EmbeddingSpace.objects.get(model="muq")
    make_map(space)
    playlist("Group", "--cluster", "t10", "--limit", "5")
    [made] = server.playlists.values()
    assert len(made["songs"]) == 5
    assert made["songs"][0] == (group_of(space, "t10") or [])[0]
    assert made["comment"].startswith("Made by navembed: is of the group of t10 on the map.")
    assert kept(Playlist.objects.get()).cluster == ["t10"]


def test_it_may_sound_like_the_users_favourites(music: Library, server: SubsonicServer) -> None:
    with pytest.raises(CommandError, match="ann has starred nothing"):
        playlist("Mine", "--favourites", "--limit", "4")
    server.starred["ann"] = {"t10": "2026-01-01T00:00:00Z"}
    playlist("Mine", "--favourites", "--limit", "4")
    [made] = server.playlists.values()
    assert made["songs"] == like_t10(4, "ann")
    assert made["comment"].startswith("Made by navembed: sounds like your favourites.")
    with pytest.raises(CommandError, match="What bob has starred is not known yet"):
        playlist("His", "--favourites", "--user", "bob")


def test_made_fresh_it_has_other_tracks_each_time(music: Library, server: SubsonicServer) -> None:
    playlist("Discovery", "--like", "t10", "--fresh", "--every", "week", "--limit", "4")
    [made] = server.playlists.values()
    first = made["songs"]
    playlist("Discovery", "--like", "t10", "--fresh", "--every", "week", "--limit", "4")
    assert (first, len(made["songs"])) == (like_t10(4, "ann"), 4)
    assert not set(first) & set(made["songs"])


def test_m3u_is_written_to_a_file_alone(music: Library, server: SubsonicServer, tmp_path: Path) -> None:
    playlist("Night", "--like", "t10", "--limit", "2", "--m3u", str(tmp_path / "n.m3u"))
    first, second = like_t10(2, "")
    lines = ["#EXTM3U", "#PLAYLIST:Night", f"#EXTINF:1,{first}", f"/{first}", f"#EXTINF:1,{second}", f"/{second}"]
    assert (tmp_path / "n.m3u").read_text().splitlines() == lines
    assert (server.calls, Playlist.objects.count()) == ([], 0)


def test_a_forgotten_one_stays_in_the_server(music: Library, server: SubsonicServer) -> None:
    playlist("Night", "--like", "t10", "--every", "week")
    playlist("Night", "--forget")
    assert (Playlist.objects.count(), len(server.playlists)) == (0, 1)


def test_the_list_tells_what_is_wrong(
    music: Library, server: SubsonicServer, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.SUBSONIC_PASSWORD = "other"
    with pytest.raises(CommandError, match="is wrong"):
        playlist("Night", "--like", "t10", "--every", "week")
    playlist()
    shown = capsys.readouterr().out
    assert "Night" in shown
    assert "weekly" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Say what the playlist shall sound like"),
        (["--like", "nobody"], "No track"),
        (["--text", "\x01"], "cannot be searched for"),
        (["--like", "t10", "--limit", "501"], "1 to 500 tracks"),
        (["--path", "t10", "t25", "--text", "slow"], "goes with nothing else"),
        (["--forget"], "no playlist Night of ours"),
    ],
)
def test_what_cannot_be_asked_is_said(music: Library, arguments: list[str], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        playlist("Night", *arguments)


def test_without_a_server_it_is_said_what_to_set(music: Library) -> None:
    with pytest.raises(CommandError, match="set NAVEMBED_SUBSONIC_URL"):
        playlist("Night", "--like", "t10")
