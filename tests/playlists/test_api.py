"""Playlists by the REST API: for programs, and for the plugin."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from embeddings.models import Playlist
from embeddings.playlists import service
from embeddings.playlists.recipe import Recipe, Role, keep_tracks, kept
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from navembed_site.http.server import is_slow
from tests.batches.rows import make_track
from tests.search.conftest import Library
from tests.subsonic import SubsonicServer

pytestmark = [pytest.mark.django_db, pytest.mark.database]
URL = "/api/v1/playlists"


@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def post(client: Client, path: str = "", status: int = 200, **body: Any) -> dict[str, Any]:
    reply = client.post(URL + path, body, content_type="application/json")
    assert reply.status_code == status, reply.content
    found: dict[str, Any] = reply.json()
    return found


def waiting(user: str = "bob") -> Playlist:
    """One whose tracks are chosen, of somebody whom we cannot sign in as."""
    playlist = service.save("Night", Recipe(like=["x"]), user=user)
    keep_tracks(playlist, Role.HELD, ["a", "b"])
    service._update(playlist, pending=True, made_at=timezone.now())
    return playlist


def test_a_playlist_is_made_and_shown(music: Library, server: SubsonicServer, client: Client) -> None:
    made = post(client, status=201, name="Night", track_ids=["t10"], limit=3, schedule="daily")["playlist"]
    [held] = server.playlists.values()
    assert (made["server_id"], made["track_ids"], made["pending"]) == (held["id"], held["songs"], False)
    assert made["sounds_like"] == "sounds like t10"
    assert client.get(URL).json()["results"] == [made]
    assert client.get(f"{URL}/{made['id']}").json() == made


def test_what_a_playlist_is_made_of_is_kept(db: None, server: SubsonicServer, client: Client) -> None:
    body = {"track_ids": ["x"], "disliked_track_ids": ["y"], "avoid": "drums", "models": ["mert"], "diversity": 0.4}
    post(client, status=422, name="Night", **body)  # nothing is found here
    recipe = Recipe(like=["x"], unlike=["y"], path=[], cluster=[], avoid="drums", models=["mert"], diversity=0.4)
    assert kept(Playlist.objects.get()) == recipe


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"name": "x"}, 422, "Say what the playlist shall sound like"),
        ({"track_ids": ["x"]}, 400, "name"),
        ({"name": "x", "track_ids": ["x"], "limit": 501}, 400, "limit"),
        ({"name": "x", "track_ids": ["x"], "schedule": "hourly"}, 400, "schedule"),
    ],
)
def test_what_cannot_be_made_is_refused(
    server: SubsonicServer, client: Client, body: dict[str, Any], status: int, told: str
) -> None:
    assert told in str(post(client, status=status, **body))
    assert not Playlist.objects.exists()


def test_the_server_s_refusal_is_told_and_kept(
    music: Library, server: SubsonicServer, client: Client, settings: Any
) -> None:
    settings.SUBSONIC_PASSWORD = "other"
    refusal = post(client, status=409, name="Night", track_ids=["t10"])["detail"]
    assert "is wrong" in refusal
    [shown] = client.get(URL).json()["results"]
    assert (shown["problem"], shown["pending"]) == (refusal, True)


def test_the_plugin_fetches_what_waits_and_says_where_it_is(db: None, client: Client) -> None:
    playlist = waiting()
    [found] = client.get(f"{URL}/pending").json()["results"]
    assert {name: found[name] for name in ("user", "name", "server_id", "track_ids")} == {
        "user": "bob", "name": "Night", "server_id": "", "track_ids": ["a", "b"],
    }  # fmt: skip
    assert found["comment"].startswith("Made by navembed: sounds like x.")
    post(client, f"/{playlist.pk}/delivered", server_id="p7")
    assert client.get(f"{URL}/pending").json()["results"] == []
    assert client.get(f"{URL}/{playlist.pk}").json()["server_id"] == "p7"


def test_what_the_plugin_asks_costs_no_device_time(db: None, client: Client, settings: Any) -> None:
    settings.RATE_LIMIT, playlist = 1, waiting()
    for _ in range(2):
        assert client.get(f"{URL}/pending").status_code == 200
        post(client, f"/{playlist.pk}/delivered", server_id="p7")
    calls = [client.post(URL, {"name": "x"}, content_type="application/json").status_code for _ in range(2)]
    assert calls[-1] == 429


def test_making_one_has_threads_of_slow_calls_and_the_plugin_has_not() -> None:
    slow = [reverse("playlist-list"), reverse("console:save_playlist"), reverse("console:make_playlist", args=[37])]
    assert all(map(is_slow, slow))
    assert not is_slow(reverse("playlist-pending"))
    assert not is_slow(reverse("playlist-delivered", args=[37]))


def test_what_the_plugin_could_not_bring_stays_pending(db: None, client: Client) -> None:
    playlist = waiting()
    assert post(client, f"/{playlist.pk}/delivered", problem="not allowed")["problem"] == "not allowed"
    assert len(client.get(f"{URL}/pending").json()["results"]) == 1
    post(client, f"/{playlist.pk}/delivered", status=400)


def test_a_forgotten_one_is_gone(db: None, client: Client) -> None:
    playlist = waiting()
    assert client.delete(f"{URL}/{playlist.pk}").json()["name"] == "Night"
    assert client.get(f"{URL}/{playlist.pk}").status_code == 404


def test_it_can_be_downloaded(db: None, client: Client) -> None:
    playlist = waiting()
    make_track("a", title="Slow\nSong")
    reply = client.get(f"{URL}/{playlist.pk}/m3u")
    assert reply["Content-Type"] == "audio/x-mpegurl"
    assert reply.content.decode().splitlines()[2:] == ["#EXTINF:2,Artist - Slow Song", "/music/a.flac"]


def test_making_one_needs_an_operator(db: None) -> None:
    token = create_token("reader", Scope.READ, created_by="tests")
    reader = Client(headers={"Authorization": f"Bearer {token.secret}"})
    post(reader, status=403, name="Night", track_ids=["x"])
    assert reader.get(URL).status_code == 200
