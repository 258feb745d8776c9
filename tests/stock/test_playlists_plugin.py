"""The plugin that brings playlists to users whom navembed cannot sign in as, without their passwords."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import extism
import pytest
from pytest_django.live_server_helper import LiveServer

from embeddings.models import Playlist
from embeddings.playlists import recipe, service
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.search.conftest import Library
from tests.stock.navidrome import Host, build

pytestmark = pytest.mark.django_db

Asked = dict[str, list[str]]


class Navidrome:
    """Navidrome's scheduler, and its Subsonic API as it answers plugins."""

    def __init__(self) -> None:
        self.playlists: dict[str, Asked] = {}
        self.schedules: list[dict[str, str]] = []
        self.refused: dict[str, Any] | None = None

        @extism.host_fn(namespace="extism:host/user")
        def scheduler_schedulerecurring(
            asked: Annotated[dict[str, Any], extism.Json], *_
        ) -> Annotated[dict[str, Any], extism.Json]:
            self.schedules.append(asked)
            return {"newScheduleId": asked["scheduleId"]}

        @extism.host_fn(namespace="extism:host/user")
        def subsonicapi_call(
            asked: Annotated[dict[str, Any], extism.Json], *_
        ) -> Annotated[dict[str, Any], extism.Json]:
            return {"responseJson": json.dumps({"subsonic-response": self.answer(asked["uri"])})}

        self.host = Host(build("navembed-playlists"), [scheduler_schedulerecurring, subsonicapi_call])

    def answer(self, uri: str) -> dict[str, Any]:
        function, asked = urlsplit(uri).path, parse_qs(urlsplit(uri).query)
        (number,) = asked.pop("playlistId", [str(len(self.playlists) + 1)])
        if self.refused:
            return {"status": "failed", "error": self.refused}
        if function == "createPlaylist" and "name" not in asked and number not in self.playlists:
            return {"status": "failed", "error": {"code": 70, "message": "playlist not found"}}
        self.playlists.setdefault(number, {}).update(asked)
        return {"status": "ok", "playlist": {"id": number}} if function == "createPlaylist" else {"status": "ok"}


@pytest.fixture(scope="module")
def plugin() -> Navidrome:
    return Navidrome()


@pytest.fixture
def navidrome(plugin: Navidrome, live_server: LiveServer, music: Library) -> Navidrome:
    plugin.host.reset()
    plugin.playlists, plugin.schedules, plugin.refused = {}, [], None
    secret = create_token("playlists", Scope.OPERATE, created_by="test").secret
    plugin.host.settings = {"address": live_server.url, "token": secret}
    return plugin


def waiting(name: str = "Rain") -> Playlist:
    """A playlist of Bob's that waits for the plugin."""
    playlist = service.save(name, recipe.Recipe(like=["t01"], limit=5), user="bob")
    service.make(playlist)
    return playlist


def test_it_looks_every_few_minutes_and_tests_the_connection(navidrome: Navidrome) -> None:
    navidrome.host.call("nd_on_init")
    assert [each["cronExpression"] for each in navidrome.schedules] == ["*/5 * * * *"]
    assert "navembed: connected to http" in navidrome.host.log()


def test_playlist_comes_to_its_user_private_and_says_how_it_came_about(navidrome: Navidrome) -> None:
    playlist = waiting()
    navidrome.host.call("nd_scheduler_callback")
    made = navidrome.playlists["1"]
    assert (made["u"], made["name"], made["public"], made["songId"]) == (
        ["bob"], ["Rain"], ["false"], recipe.tracks_of(playlist),
    )  # fmt: skip
    assert "sounds like" in made["comment"][0]
    playlist.refresh_from_db()
    assert (playlist.server_id, playlist.pending, playlist.problem) == ("1", False, "")


def test_playlist_is_updated_in_place(navidrome: Navidrome) -> None:
    playlist = waiting()
    navidrome.host.call("nd_scheduler_callback")
    navidrome.playlists["1"]["name"] = ["Bob's own name"]
    playlist.refresh_from_db()
    service.make(playlist)
    navidrome.host.call("nd_scheduler_callback")
    assert (list(navidrome.playlists), navidrome.playlists["1"]["name"]) == (["1"], ["Bob's own name"])


def test_playlist_that_was_deleted_is_made_anew(navidrome: Navidrome) -> None:
    playlist = waiting()
    service.delivered(playlist, "99")
    service.make(playlist)
    navidrome.host.call("nd_scheduler_callback")
    playlist.refresh_from_db()
    assert (playlist.server_id, navidrome.playlists["1"]["name"]) == ("1", ["Rain"])


def test_refusal_is_told_and_tried_again(navidrome: Navidrome) -> None:
    playlist = waiting()
    navidrome.refused = {"code": 50, "message": "not allowed"}
    navidrome.host.call("nd_scheduler_callback")
    playlist.refresh_from_db()
    assert (playlist.problem, playlist.pending) == ("not allowed", True)
    assert 'playlist "Rain" of bob: not allowed' in navidrome.host.log()


def test_token_that_may_only_read_is_told(navidrome: Navidrome) -> None:
    waiting()
    navidrome.host.settings["token"] = create_token("reader", Scope.READ, created_by="test").secret
    navidrome.host.call("nd_scheduler_callback")
    assert "This needs the scope operate" in navidrome.host.log()


def test_manifest_names_what_it_needs(plugin: Navidrome) -> None:
    assert set(plugin.host.manifest["permissions"]) == {"http", "scheduler", "users", "subsonicapi"}
    assert all(each["reason"] for each in plugin.host.manifest["permissions"].values())
    assert plugin.host.exports("nd_scheduler_callback")
    assert not plugin.host.exports("nd_get_similar_artists")
