"""The plugin that brings playlists to users whom navembed cannot sign in as, without their passwords."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import extism
import pytest
from pytest_django.live_server_helper import LiveServer

from embeddings.errors import PlaylistRefused
from embeddings.models import Listener, Playlist
from embeddings.playlists import recipe, service
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.search.conftest import Library
from tests.stock.navidrome import Host, build, check_manifest, fetched, result
from tests.subsonic import SubsonicServer

pytestmark = pytest.mark.django_db


class Navidrome:
    """Navidrome's scheduler, and its Subsonic API as it answers plugins.

    ``refused`` is what it answers to some functions; answers of those in ``lost`` do not arrive.
    """

    def __init__(self) -> None:
        self.reset()

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
            function, form = urlsplit(asked["uri"]).path, parse_qs(urlsplit(asked["uri"]).query)
            answer = self.refused.get(function) or self.server.answer_plugin(function, form)
            if function in self.lost:
                return {"error": "the call has ended"}
            return {"responseJson": json.dumps({"subsonic-response": answer})}

        self.host = Host(build("navembed-playlists"), [scheduler_schedulerecurring, subsonicapi_call])

    def reset(self) -> None:
        self.server = SubsonicServer(granted={"bob": [1, 2]})
        self.schedules: list[dict[str, str]] = []
        self.refused: dict[str, dict[str, Any]] = {}
        self.lost: set[str] = set()

    def refuse(self, function: str, message: str, code: int = 50) -> None:
        self.refused[function] = {"status": "failed", "error": {"code": code, "message": message}}

    def tick(self) -> None:
        self.host.call("nd_scheduler_callback")


@pytest.fixture(scope="module")
def plugin() -> Navidrome:
    return Navidrome()


@pytest.fixture
def navidrome(plugin: Navidrome, live_server: LiveServer, music: Library) -> Navidrome:
    plugin.host.reset()
    plugin.reset()
    secret = create_token("playlists", Scope.OPERATE, created_by="test").secret
    plugin.host.settings = {"address": live_server.url, "token": secret}
    return plugin


def waiting(name: str = "Rain", user: str = "bob") -> Playlist:
    """A playlist that waits for the plugin."""
    playlist = service.save(name, recipe.Recipe(like=["t01"], limit=5), user=user)
    service.make(playlist)
    return playlist


def test_it_looks_every_few_minutes_and_tests_the_connection(navidrome: Navidrome) -> None:
    navidrome.host.call("nd_on_init")
    assert [each["cronExpression"] for each in navidrome.schedules] == ["*/5 * * * *"]
    assert "navembed: connected to http" in navidrome.host.log()


def test_playlist_comes_to_its_user_private_and_says_how_it_came_about(navidrome: Navidrome) -> None:
    playlist = waiting()
    navidrome.tick()
    [made] = navidrome.server.playlists.values()
    assert (made["owner"], made["name"], made["public"], made["songs"]) == (
        "bob", "Rain", False, recipe.tracks_of(playlist),
    )  # fmt: skip
    assert made["comment"].startswith("Made by navembed: sounds like")
    playlist.refresh_from_db()
    assert (playlist.server_id, playlist.pending, playlist.problem) == (made["id"], False, "")


def test_playlist_is_updated_in_place(navidrome: Navidrome) -> None:
    playlist = waiting()
    navidrome.tick()
    [made] = navidrome.server.playlists.values()
    made |= {"name": "Bob's own name", "public": True, "songs": []}
    playlist.refresh_from_db()
    service.make(playlist)
    navidrome.tick()
    assert list(navidrome.server.playlists.values()) == [made]
    assert (made["name"], made["public"], made["songs"]) == ("Bob's own name", True, recipe.tracks_of(playlist))


def test_playlist_that_was_deleted_is_made_anew(navidrome: Navidrome) -> None:
    playlist = waiting()
    service.delivered(playlist, "99")
    service.make(playlist)
    navidrome.tick()
    playlist.refresh_from_db()
    assert [(playlist.server_id, each["name"]) for each in navidrome.server.playlists.values()] == [("p1", "Rain")]


@pytest.mark.parametrize("step", ["getPlaylists", "createPlaylist", "updatePlaylist", "delivered"])
def test_no_failure_makes_a_second_playlist(navidrome: Navidrome, step: str) -> None:
    playlist = waiting()
    navidrome.server.add_playlist("Rain", "bob", ["his"])
    navidrome.lost = {step}
    navidrome.tick()
    navidrome.refuse(step, "busy")
    if step == "delivered":
        navidrome.host.answer = lambda asked: fetched(asked) if asked["method"] == "GET" else result(500, b"")
    navidrome.tick()
    navidrome.host.answer, navidrome.refused, navidrome.lost = fetched, {}, set()
    navidrome.tick()
    his, made = navidrome.server.playlists.values()
    playlist.refresh_from_db()
    assert (his["songs"], made["name"], made["songs"]) == (["his"], "Rain", recipe.tracks_of(playlist))
    assert (playlist.server_id, playlist.pending, made["public"]) == (made["id"], False, False)


def test_smart_read_only_and_foreign_ones_are_left_alone(navidrome: Navidrome) -> None:
    marks = {"Smart": {"validUntil": "2026-11-28T00:00:00Z"}, "Synced": {"readonly": True}, "Foreign": {"owner": "ann"}}
    for name, mark in marks.items():
        playlist = waiting(name)
        service.delivered(playlist, navidrome.server.add_playlist(name, **{"owner": "bob", "songs": ["his"]} | mark))
        service.make(playlist)
    navidrome.tick()
    assert navidrome.server.names() == ["getUser", *["getPlaylists"] * 3]
    assert all("left as it is" in each.problem for each in service.pending())


def test_refusals_are_told_and_tried_again_and_hold_up_nobody(navidrome: Navidrome) -> None:
    for message in ("", "not allowed " * 1000):
        waiting(f"Rain {len(message)}")
        navidrome.refuse("getPlaylists", message)
        navidrome.tick()
    assert 'playlist "Rain 0" of bob: error 50' in navidrome.host.log()
    navidrome.refused = {}
    waiting()
    assert [each.problem[:11] for each in service.pending()] == ["", "not allowed", "not allowed"]
    navidrome.tick()
    assert not service.pending()


def test_answer_that_navembed_does_not_take_holds_up_nobody(navidrome: Navidrome) -> None:
    waiting(), waiting("Snow")
    refusals = [result(400, b"")]

    def refused_once(asked: dict[str, Any]) -> dict[str, Any]:
        return refusals.pop() if refusals and asked["url"].endswith("/delivered") else fetched(asked)

    navidrome.host.answer = refused_once
    navidrome.tick()
    assert [each.name for each in service.pending()] == ["Rain"]
    assert "answers 400" in navidrome.host.log()


def test_one_that_is_made_anew_meanwhile_stays_pending(navidrome: Navidrome) -> None:
    playlist = waiting()

    def made_anew(request: dict[str, Any]) -> dict[str, Any]:
        answer = fetched(request)
        if request["method"] == "GET":
            service.make(playlist)
        return answer

    navidrome.host.answer = made_anew
    navidrome.tick()
    playlist.refresh_from_db()
    assert (playlist.server_id, playlist.pending) == ("p1", True)
    navidrome.host.answer = fetched
    navidrome.tick()
    assert not service.pending()


def test_favourites_come_from_the_plugin(navidrome: Navidrome) -> None:
    with pytest.raises(PlaylistRefused, match="What bob has starred is not known yet"):
        service.make(service.save("Mine", recipe.Recipe(favourites=True, limit=5), user="bob"))
    stars = {f"t{number:02}": f"2026-01-{number + 1:02}T00:00:00Z" for number in range(20)}
    navidrome.server.starred["bob"] = stars | {f"old{number}": "2025-01-01T00:00:00Z" for number in range(300)}
    navidrome.tick()
    told = Listener.objects.get(user="bob")
    assert (told.libraries, told.starred[:20], len(told.starred)) == ([1, 2], sorted(stars, reverse=True), 200)
    assert service.make_due(60) == 1
    navidrome.tick()
    [made] = navidrome.server.playlists.values()
    assert (made["name"], len(made["songs"]), set(made["songs"]) & set(stars)) == ("Mine", 5, set())
    assert navidrome.server.names().count("getStarred2") == 1
    assert Playlist.objects.get().due_at is None


def test_a_user_whom_the_plugin_may_not_serve_holds_up_nobody(navidrome: Navidrome) -> None:
    waiting("Snow", user="carl")
    playlist = waiting()
    navidrome.tick()
    assert "not authorized" in navidrome.host.log()
    playlist.refresh_from_db()
    assert not playlist.pending


def test_token_that_may_only_read_is_told(navidrome: Navidrome) -> None:
    waiting()
    navidrome.host.settings["token"] = create_token("reader", Scope.READ, created_by="test").secret
    navidrome.tick()
    assert "This needs the scope operate" in navidrome.host.log()


def test_manifest_follows_navidromes_rules(plugin: Navidrome) -> None:
    check_manifest(plugin.host.manifest, {"http", "scheduler", "users", "subsonicapi"})
    assert plugin.host.exports("nd_scheduler_callback")
    assert not plugin.host.exports("nd_get_similar_artists")
