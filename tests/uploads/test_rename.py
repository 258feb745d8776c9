"""Names from a language model: a stand-in server answers as such servers do, and as they should not."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from embeddings.uploads import names, rename
from embeddings.uploads.rename import MOST_BYTES, NotRenamed, base_url, new_name, title_in
from embeddings.uploads.request import Request, Wishes
from navembed_site.demo.language_model import Handler, LanguageModel
from tests.uploads.client import GoClient

KEY = "sk-a-secret-key"


class Model(LanguageModel):
    """``answer`` is what the model says; ``refuses`` a field that it does not know."""

    answer: str | None = '{"title": "Artist - Song"}'
    refuses = ""
    redirect = ""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str | None] = []

    def says(self, body: dict[str, Any]) -> str | None:
        return self.answer

    def reply(self, handler: Handler, body: dict[str, Any]) -> None:
        self.keys.append(handler.headers["Authorization"])
        if self.redirect:
            handler.reply(307, {}, Location=self.redirect)
        elif self.refuses in body:
            handler.reply(400, {"error": {"message": f"unknown parameter; your key is {KEY}"}})
        else:
            super().reply(handler, body)


@pytest.fixture
def model(settings: Any) -> Iterator[Model]:
    settings.LLM_KEY = KEY
    server = Model()
    with server.answering():
        yield server


def renamed(model: Model, name: str = "01_song(final).MP3", **wishes: Any) -> str:
    request = Request(Path(name), name, None, Wishes(**{"endpoint": model.endpoint, "model": "m"} | wishes))
    try:
        return new_name(request, {"artist": "Ärtist", "genre": ""}, lambda: False)
    finally:
        names.let_go(request)


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


def test_two_files_never_get_one_name(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "COPY_SECONDS", 60.0)
    model.answer = '{"title": "Taken"}'
    found = [renamed(model, name) for name in ("a.mp3", "b.mp3", "a.mp3")]
    assert found == ["Taken.mp3", "Taken (2).mp3", "Taken.mp3"]


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
    resolved = iter([["::1", "127.0.0.1"]])  # the first of which nobody listens at
    monkeypatch.setattr(rename, "_resolved", lambda host: next(resolved))
    model.refuses = "response_format"  # two calls
    assert renamed(model, endpoint=f"http://llm.example:{model.server_port}") == "Artist - Song.MP3"
    assert {each["host"] for each in model.asked} == {f"llm.example:{model.server_port}"}
    assert set(model.keys) == {"Bearer none"}  # anybody could read it on its way


def test_all_addresses_of_a_name_are_known() -> None:
    assert rename._resolved("localhost") in (["127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.1", "::1"])


@pytest.mark.parametrize("squeezed", [False, True])
def test_an_answer_without_an_end_is_not_read(model: Model, squeezed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = gzip.compress(bytes(20 * MOST_BYTES)) if squeezed else bytes(20 * MOST_BYTES)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        if squeezed:
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(sent)

    monkeypatch.setattr(model, "reply", reply)
    with pytest.raises(NotRenamed, match="cannot be asked"):
        renamed(model)


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
