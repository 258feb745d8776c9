"""The built plugin, run as Navidrome runs it, against navembed as it is served."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from pytest_django.live_server_helper import LiveServer

from navembed_site import VERSION
from navembed_site.access.models import Token
from tests.search.conftest import Library
from tests.stock.navidrome import Host, build, check_manifest, result
from tests.stock.test_similar import column, credit

EMPTY: dict[str, dict[str, list[Any]]] = {
    "nd_get_similar_songs_by_track": {"songs": []},
    "nd_get_similar_songs_by_album": {"songs": []},
    "nd_get_similar_songs_by_artist": {"songs": []},
    "nd_get_similar_artists": {"artists": []},
    "nd_get_sonic_similar_tracks": {"matches": []},
    "nd_find_sonic_path": {"matches": []},
}
GIVEN: dict[str, Any] = {"id": "t01", "name": "A", "artist": "B", "count": 5, "limit": 5}
GIVEN |= {"song": {"id": "t01", "name": "A"}, "startSong": {"id": "t00"}, "endSong": {"id": "t13"}}


@pytest.fixture(scope="session")
def built() -> Host:
    """The plugin, compiled once."""
    return Host(build("navembed"))


@pytest.fixture
def host(built: Host) -> Host:
    built.reset()
    built.settings = {"token": "nv_x"}
    return built


@pytest.fixture
def navidrome(host: Host, live_server: LiveServer, music: Library, secret: str) -> Host:
    """Connected to navembed with thirty tracks."""
    host.settings = {"address": live_server.url, "token": secret, "models": ["muq"]}
    return host


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes requests and never answers."""
    end = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            end.wait(60)

    server = HTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    end.set()
    server.shutdown()
    thread.join()
    server.server_close()


def ids(songs: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in songs]


# What it answers


@pytest.mark.django_db
def test_songs_like_a_track(navidrome: Host) -> None:
    songs = navidrome.call("nd_get_similar_songs_by_track", id="t01", name="A", artist="B", count=7)["songs"]
    assert len(songs) == 7
    assert songs[0].keys() == {"id", "name", "duration"}
    assert 'navembed: 7 songs like the track "A" by "B" (t01)' in navidrome.log()


@pytest.mark.django_db
def test_songs_like_an_album_and_an_artist(navidrome: Host, music: Library) -> None:
    credit(music, t01=("a1", "artist"), t10=("a1", "artist"))
    column(music, "album_id", dict.fromkeys(("t01", "t10"), "al"))
    asked = {"name": "A", "artist": "B", "count": 5}
    assert ids(navidrome.call("nd_get_similar_songs_by_artist", id="a1", **asked)["songs"])
    songs = ids(navidrome.call("nd_get_similar_songs_by_album", id="al", **asked)["songs"])
    assert (len(songs), {"t01", "t10"} & {*songs}) == (5, set())
    assert navidrome.call("nd_get_similar_songs_by_album", id="none", **asked) == {"songs": []}
    assert "There is no album none." in navidrome.log()


@pytest.mark.django_db
def test_similar_artists(navidrome: Host, music: Library) -> None:
    credit(music, t01=("a1", "artist"), t02=("a2", "artist"))
    artists = navidrome.call("nd_get_similar_artists", id="a1", name="A", limit=8)["artists"]
    assert {"id": "a2", "name": "A2"} in artists
    assert len(artists) == 8


@pytest.mark.django_db
def test_sonic_similarity(navidrome: Host) -> None:
    matches = navidrome.call("nd_get_sonic_similar_tracks", song={"id": "t01", "name": "A"}, count=4)["matches"]
    assert len(matches) == 4
    assert all(0 <= each["similarity"] <= 1 and each["song"]["id"] for each in matches)


@pytest.mark.django_db
def test_sonic_path_holds_start_and_end(navidrome: Host) -> None:
    matches = navidrome.call("nd_find_sonic_path", startSong={"id": "t00"}, endSong={"id": "t13"}, count=6)["matches"]
    assert (matches[0]["song"]["id"], matches[-1]["song"]["id"]) == ("t00", "t13")
    assert len(matches) <= 6


@pytest.mark.django_db
def test_unknown_gets_an_empty_answer(navidrome: Host) -> None:
    nobody = {"id": "nobody", "name": "Nobody"}
    asked = {**nobody, "song": nobody, "startSong": nobody, "endSong": nobody, "count": 5, "limit": 5}
    assert {function: navidrome.call(function, **asked) for function in EMPTY} == EMPTY


@pytest.mark.django_db
def test_five_at_a_time(navidrome: Host) -> None:
    def ask(number: int) -> Any:
        return navidrome.call("nd_get_similar_songs_by_track", id=f"t{number:02}", name="A", artist="B", count=500)

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(ask, range(5)))
    assert [answer == ask(number) for number, answer in enumerate(answers)] == [True] * 5
    assert all(answer["songs"] for answer in answers)


# What it asks, and how long


def test_settings_are_what_is_asked(host: Host) -> None:
    host.answer = lambda request: {"error": "none"}
    host.settings |= {"models": ["muq", "latent"], "diversity": 0.4, "per_artist": 2, "max_minutes": 15}
    host.call("nd_get_similar_songs_by_track", id="a b&c", count=100)
    (request,) = host.requests
    asked = {"track": ["a b&c"], "models": ["muq", "latent"], "limit": ["100"]}
    assert parse_qs(urlsplit(request["url"]).query) == asked | {
        "diversity": ["0.4"], "per_artist": ["2"], "max_duration": ["900"],
    }  # fmt: skip
    assert request["headers"]["Authorization"] == "Bearer nv_x"


def test_defaults_are_those_of_the_manifest(host: Host) -> None:
    host.answer = lambda request: {"error": "none"}
    host.call("nd_get_similar_songs_by_track", id="t01", count=100_000)
    (request,) = host.requests
    assert request["url"].startswith("http://127.0.0.1:9002/api/v1/similar?")
    asked = parse_qs(urlsplit(request["url"]).query)
    assert (asked["models"], asked["limit"], asked["per_artist"]) == (["muq", "mert", "latent"], ["500"], ["5"])
    host.call("nd_find_sonic_path", **GIVEN)
    assert parse_qs(urlsplit(host.requests[-1]["url"]).query)["models"] == ["muq", "mert", "latent"]


@pytest.mark.parametrize("function", EMPTY)
def test_every_function_asks_once_and_waits_less_than_five_seconds(host: Host, function: str) -> None:
    host.answer = lambda request: {"error": "none"}
    assert host.call(function, **GIVEN) == EMPTY[function]
    assert [request["timeoutMs"] < 5000 for request in host.requests] == [True]


def test_late_answer_is_an_empty_one_within_five_seconds(host: Host, silent: str) -> None:
    host.settings["address"] = silent
    began = time.process_time()  # which does not count the waiting
    assert host.call("nd_get_similar_songs_by_track", **GIVEN) == {"songs": []}
    assert "no answer from" in host.log()
    assert sum(request["timeoutMs"] for request in host.requests) / 1000 + time.process_time() - began < 5


# What goes wrong


@pytest.mark.django_db
def test_wrong_token_is_told(navidrome: Host) -> None:
    navidrome.settings["token"] = "nv_wrong"
    assert navidrome.call("nd_get_similar_songs_by_track", **GIVEN) == {"songs": []}
    assert "refuses the token" in navidrome.log()


def reply(status: int, body: str) -> dict[str, Any]:
    return result(status, body.encode())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"error": "connection refused"}, "Is navembed running, and is the address right?"),
        ({}, "the server gave no result"),
        (reply(200, "<html>"), "does not answer as navembed does"),
        (reply(503, '{"detail": "the database does not answer"}'), "answers 503 the database does not answer"),
        (reply(404, "<html>"), "answers 404"),
    ],
)
def test_error_is_an_empty_answer_and_a_line_in_the_log(host: Host, answer: dict[str, Any], said: str) -> None:
    host.answer = lambda request: answer
    assert host.call("nd_get_sonic_similar_tracks", **GIVEN) == {"matches": []}
    assert said in host.log()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("address", "navembed:9002", "address must begin with http"),
        ("token", "", "token is empty"),
        ("diversity", "much", 'diversity cannot be "much"'),
        ("models", "muq", 'models cannot be "muq"'),
        ("models", "[]", "choose one of the models at least"),
    ],
)
def test_wrong_setting_is_told_and_nothing_asked(host: Host, setting: str, value: str, said: str) -> None:
    host.settings[setting] = value
    assert host.call("nd_get_similar_artists", **GIVEN) == {"artists": []}
    assert (said in host.log(), host.requests) == (True, [])


# The connection


@pytest.mark.django_db
def test_connection_is_tested_when_the_plugin_is_loaded(navidrome: Host, secret: str) -> None:
    navidrome.settings |= {"diversity": 0.5}
    navidrome.call("nd_on_init")
    assert "navembed: connected to http" in navidrome.log()
    status = Client(HTTP_AUTHORIZATION=f"Bearer {secret}").get("/api/v1/plugin/status").json()
    (connection,) = status["connections"]
    assert (connection["token"], connection["version"]) == ("navidrome", VERSION)
    assert connection["settings"] == "models=muq; diversity=0.5; per_artist=5; max_minutes=0"


@pytest.mark.django_db
def test_failed_connection_is_told(navidrome: Host) -> None:
    navidrome.settings["token"] = "nv_wrong"
    navidrome.call("nd_on_init")
    assert "refuses the token" in navidrome.log()
    assert Token.objects.get().plugin == ""


# The file


def test_manifest_follows_navidromes_rules(host: Host) -> None:
    check_manifest(host.manifest, {"http"})


def test_exports_are_what_navidrome_calls(host: Host) -> None:
    assert all(host.exports(name) for name in [*EMPTY, "nd_on_init"])
