"""Names from a language model: a stand-in server answers as such servers do, and as they should not."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from embeddings.uploads import rename
from embeddings.uploads.rename import NotRenamed, base_url, new_name, title_in
from embeddings.uploads.request import Wishes
from tests.uploads.client import GoClient

KEY = "sk-a-secret-key"


class Model(ThreadingHTTPServer):
    """An OpenAI-compatible server. ``answer`` is what the model says; ``refuses`` a field that it does not know."""

    daemon_threads = True
    answer: str | None = '{"title": "Artist - Song"}'
    refuses = ""
    redirect = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body | {"path": self.path, "host": self.headers["Host"]})
        self.server.keys.append(self.headers["Authorization"])
        if self.server.redirect:
            self.send_response(307)
            self.send_header("Location", self.server.redirect)
            self.end_headers()
        elif self.server.refuses in body:
            self._reply(400, {"error": {"message": f"unknown parameter; your key is {KEY}"}})
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": self.server.answer}}
            self._reply(200, {"id": "x", "object": "chat.completion", "choices": [choice]})

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def model(settings: Any) -> Iterator[Model]:
    settings.LLM_KEY = KEY
    server = Model()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def renamed(model: Model, name: str = "01_song(final).MP3", **wishes: Any) -> str:
    wished = Wishes(**{"endpoint": model.endpoint, "model": "m"} | wishes)
    return new_name(name, wished, {"artist": "Ärtist", "genre": ""}, lambda: False)


def test_a_file_gets_the_name_that_the_model_says(model: Model) -> None:
    assert renamed(model, prompt="Be brief.", reasoning="low") == "Artist - Song.MP3"
    asked = model.asked[0]
    assert (asked["path"], asked["model"], asked["reasoning_effort"]) == ("/v1/chat/completions", "m", "low")
    assert asked["messages"][0]["content"].endswith("\n\nBe brief.")
    assert json.loads(asked["messages"][1]["content"]) == {"file": "01_song(final).MP3", "tags": {"artist": "Ärtist"}}
    assert model.keys == [f"Bearer {KEY}"]


def test_tags_are_told_only_when_it_is_wished(model: Model) -> None:
    renamed(model, use_metadata=False)
    assert json.loads(model.asked[0]["messages"][1]["content"])["tags"] == {}


def test_a_server_without_structured_output_is_asked_again_without(model: Model) -> None:
    model.refuses = "response_format"
    model.answer = 'Sure! Here it is:\n```json\n{"title": "Artist - Song"}\n```\nEnjoy {it}.'
    assert renamed(model) == "Artist - Song.MP3"


def test_names_are_safe_and_keep_their_suffix(model: Model) -> None:
    wanted = {"../../etc/x": "..-..-etc-x.mp3".lstrip("."), "A.mp3": "A.mp3", "CON": "_CON.mp3", "a.mp3": ""}
    for title, found in wanted.items():
        model.answer = json.dumps({"title": title})
        assert renamed(model, "a.mp3") == found.replace("..-..-", "-..-")
    model.answer = '{"title": "New"}'
    assert renamed(model, "no suffix") == "New"


def test_useless_answers_keep_the_name(model: Model) -> None:
    for answer in (None, "", "I cannot.", "{}", '{"title": 3}', '{"title": " "}', '{"title": "..."}', "{" * 9_999):
        model.answer = answer
        with pytest.raises(NotRenamed, match="title"):
            renamed(model)


def test_the_key_is_in_no_message_and_no_log(model: Model, caplog: pytest.LogCaptureFixture) -> None:
    model.refuses = "messages"
    with caplog.at_level(logging.DEBUG), pytest.raises(NotRenamed, match="status 400") as told:
        renamed(model)
    assert KEY not in str(told.value)
    assert KEY not in caplog.text


def test_redirects_are_not_followed(model: Model) -> None:
    model.redirect = f"http://127.0.0.1:{model.server_port}/elsewhere"
    with pytest.raises(NotRenamed, match="status 307"):
        renamed(model)
    assert len(model.asked) == 1


def test_only_hosts_on_the_list_are_asked(model: Model, settings: Any) -> None:
    settings.LLM_HOSTS = frozenset({"llm.example"})
    for endpoint in (
        model.endpoint,
        "http://169.254.169.254/latest",
        "https://llm.example.evil.com",
        "llm.example@evil",
    ):
        with pytest.raises(NotRenamed):
            renamed(model, endpoint=endpoint)
    assert not model.asked


def test_a_name_is_resolved_once_and_that_address_is_asked(
    model: Model, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LLM_HOSTS = frozenset({"llm.example"})
    addresses = iter(["127.0.0.1", "10.0.0.1"])
    monkeypatch.setattr(rename, "_resolved", lambda host: next(addresses))
    model.refuses = "response_format"  # two calls
    assert renamed(model, endpoint=f"http://llm.example:{model.server_port}") == "Artist - Song.MP3"
    assert {each["host"] for each in model.asked} == {f"llm.example:{model.server_port}"}


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("", "https://api.openai.com/v1"),
        ("api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://localhost:11434/v1/chat/completions", "http://localhost:11434/v1"),
        ("localhost:11434", "http://localhost:11434/v1"),
        ("http://[::1]:80/openai/v1", "http://[::1]:80/openai/v1"),
    ],
)
def test_an_endpoint_may_be_given_in_several_ways(endpoint: str, url: str) -> None:
    assert base_url(endpoint) == url


@pytest.mark.parametrize(
    "endpoint", ["file:///etc/passwd", "ftp://localhost", "http://", "http://u:p@localhost", "::", "[", "localhost:x"]
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(NotRenamed):
        base_url(endpoint)


def test_prose_around_the_title_does_no_harm() -> None:
    assert title_in('<think>{"a": 1}</think> {"title": "x"} {"title": "y"}') == "x"


def test_a_failure_never_fails_the_upload(client: GoClient, arrived: Callable[..., Path], settings: Any) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0
    wish = {"renameEnabled": "on", "openAiEndpoint": "http://127.0.0.1:1"}
    answer = client.upload(arrived(), name="song.flac", settings=wish)
    assert (answer["status"], answer["renamedFile"]) == ("ok", "")
    assert "song.flac keeps its name" in answer["warning"]
