"""What we ask of a music server, and what its answers and errors become."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import ServerRefused, ServerUnavailable
from embeddings.subsonic import listed, subsonic
from navembed_site.errors import NavembedError
from tests.subsonic import PASSWORD, SubsonicServer


def refused(kind: type[NavembedError], method: str = "ping") -> str:
    with pytest.raises(kind) as error, subsonic() as asked:
        asked.ask(method)
    assert PASSWORD not in str(error.value)
    return str(error.value)


def test_a_question_is_signed_by_a_token_and_holds_no_password(server: SubsonicServer) -> None:
    with subsonic() as asked:
        assert asked.ask("ping")["type"] == "navidrome"
        asked.ask("ping")
    forms = [form for _, form in server.calls]
    assert not any(PASSWORD in value for form in forms for values in form.values() for value in values)
    assert forms[0]["s"] != forms[1]["s"]


def test_wrong_password_names_the_variables(server: SubsonicServer, settings: Any) -> None:
    settings.SUBSONIC_PASSWORD = "other"
    assert "NAVEMBED_SUBSONIC_USER or NAVEMBED_SUBSONIC_PASSWORD is wrong" in refused(ServerRefused)


@pytest.mark.parametrize(
    ("code", "told"),
    [(41, "no tokens for ann"), (50, "not allow ann"), (70, "nothing of this id"), (0, "refuses: why")],
)
def test_errors_of_the_api_become_sentences(server: SubsonicServer, code: int, told: str) -> None:
    server.body = b'{"subsonic-response": {"status": "failed", "error": {"code": %d, "message": "why"}}}' % code
    assert told in refused(ServerRefused)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b'{"subsonic-response": null}', b'{"subsonic-response": {"status": "failed"}}', b"{}"]
)
def test_what_is_no_music_server_is_told(server: SubsonicServer, body: bytes) -> None:
    server.body = body
    assert "does not speak the Subsonic API" in refused(ServerUnavailable)


@pytest.mark.parametrize(("status", "told"), [(502, "HTTP status 502"), (302, "another address")])
def test_other_statuses_are_told_and_no_redirect_is_followed(server: SubsonicServer, status: int, told: str) -> None:
    server.status, server.location = status, server.url if status == 302 else ""
    assert told in refused(ServerUnavailable)
    assert len(server.calls) == 1


def test_an_endless_answer_is_not_read(server: SubsonicServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.subsonic.MOST_BYTES", 100)
    server.body = b"x" * 1000
    assert "more than a list can take" in refused(ServerUnavailable)


def test_a_server_that_is_away_is_named_by_its_host_alone(settings: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.SUBSONIC_URL = f"http://user:{'s3cret'}@127.0.0.1:{port}/s3cret"
    settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = "ann", PASSWORD
    assert refused(ServerUnavailable) == "The music server 127.0.0.1 cannot be reached: Connection refused."


def test_what_is_not_set_is_named(settings: Any) -> None:
    settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = "http://x", "", ""
    assert refused(ServerUnavailable).endswith("set NAVEMBED_SUBSONIC_USER, NAVEMBED_SUBSONIC_PASSWORD.")


def test_a_file_comes_as_it_is_and_a_refusal_is_told(server: SubsonicServer, tmp_path: Path) -> None:
    music = b"music" * 1000
    (tmp_path / "a.flac").write_bytes(music)
    server.files = {"a": tmp_path / "a.flac"}
    looks: list[int] = []
    with subsonic() as asked:
        asked.fetch("a", tmp_path / "copy", lambda: looks.append(1))
        assert ((tmp_path / "copy").read_bytes(), bool(looks)) == (music, True)
        with pytest.raises(ServerRefused, match="nothing of this id"):
            asked.fetch("b", tmp_path / "copy", lambda: None)
        server.body = b'{"subsonic-response": {"status": "ok"}}'
        with pytest.raises(ServerUnavailable, match="sends no music"):
            asked.fetch("b", tmp_path / "copy", lambda: None)


@pytest.mark.parametrize(
    ("answer", "found"),
    [({}, []), ({"a": {}}, []), ({"a": {"b": {"c": 1}}}, [{"c": 1}]), ({"a": {"b": [{"c": 1}, 2]}}, [{"c": 1}])],
)
def test_lists_are_read_as_old_and_new_servers_give_them(answer: dict[str, Any], found: list[Any]) -> None:
    assert listed(answer, "a", "b") == found
