"""Search by tracks, by text and by sound, from a small library that was really embedded."""

from __future__ import annotations

import gc
import json
import stat
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from embeddings.api.v1 import search
from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.index.sync import index_pending
from embeddings.models import Embedding, Track
from embeddings.search import upload
from embeddings.spaces.lifecycle import space_for
from embeddings.spaces.vectors import to_bytes
from tests.audio_files import DAMAGED
from tests.batches.conftest import Music, music, pool
from tests.instances import EmbedderProcess
from tests.milvus import LiteServer, lite_server, milvus

__all__ = ["lite_server", "milvus", "music", "pool"]

pytestmark = pytest.mark.django_db

URL = "/api/v1/search"


@cache
def embedded(*paths: Path) -> list[bytes]:
    """Return the files' vectors, which are computed once for all tests."""
    events = EmbedderClient().embed([TrackRequest(path.name, str(path), ("muq",)) for path in paths])
    vectors = {each.id: each.vectors["muq"].vector for each in events if isinstance(each, TrackOutcome)}
    return [to_bytes(vectors[path.name], "float32") for path in paths]


@pytest.fixture
def library(music: Music, milvus: LiteServer, embedder: EmbedderProcess) -> Music:
    """Five tracks with MuQ vectors, in Milvus."""
    space = space_for("muq", EmbedderClient().describe("muq"))
    for number, vector in enumerate(embedded(*music.pool[:5])):
        name = music.add(f"track{number}.flac", seed=number)
        path = music.root / f"{name}.flac"
        file = {"size": path.stat().st_size, "mtime": "m"}
        seen = {"title": name, "artist": "A", "duration": 2, "playable": True, "scan": 1}
        track = Track.objects.create(id=name, library_id=1, path=path, **seen, **file)
        Embedding.objects.create(
            space=space, track=track, windows=1, audio_seconds=2, vector=vector, audio_hash="a", **file
        )
    index_pending(space)
    return music


def ask(client: Client, **body: Any) -> dict[str, Any]:
    reply = client.post(URL, json.dumps(body), content_type="application/json")
    assert reply.status_code == 200, reply.content
    answer: dict[str, Any] = reply.json()
    return answer


def send(client: Client, content: bytes, name: str = "song.flac", **fields: Any) -> Any:
    return client.post(URL, {"audio": SimpleUploadedFile(name, content), **fields})


def ids(answer: dict[str, Any]) -> list[str]:
    return [hit["track"]["id"] for hit in answer["results"]]


def test_search_by_track_names_what_it_finds(client: Client, library: Music) -> None:
    answer = ask(client, track_ids=["track0"])
    assert sorted(ids(answer)) == ["track1", "track2", "track3", "track4"]
    assert (answer["results"][0]["track"]["artist"], answer["results"][0]["models"]) == ("A", ["muq"])


def test_search_by_text(client: Client, library: Music) -> None:
    answer = ask(client, texts=["calm piano"], limit=2)
    assert (len(answer["results"]), answer["warnings"]) == (2, [])


def test_search_by_sound_finds_the_same_recording_first(client: Client, library: Music) -> None:
    reply = send(client, (library.root / "track3.flac").read_bytes(), limit=2)
    assert ids(reply.json())[0] == "track3"
    assert len(reply.json()["results"]) == 2
    assert reply.json()["results"][0]["reason"].startswith("sounds like the file you uploaded (")


def test_upload_is_ours_alone_and_gone_afterwards(
    client: Client, library: Music, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, int]] = []

    def embed_upload(path: Path, models: Any) -> Any:
        seen.append((path, stat.S_IMODE(path.stat().st_mode)))
        return upload.embed_upload(path, models)

    monkeypatch.setattr(search, "embed_upload", embed_upload)
    send(client, (library.root / "track3.flac").read_bytes())
    ((path, mode),) = seen
    assert (path.parent, mode, path.exists()) == (settings.NAVEMBED_HOME, 0o600, False)


@pytest.mark.parametrize("broken", ["base64", "second file"])
def test_refused_upload_is_gone_though_no_garbage_is_collected(
    client: Client, settings: Any, tmp_path: Path, broken: str
) -> None:
    settings.FILE_UPLOAD_TEMP_DIR = tmp_path
    part = '--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n{}\r\n' + "s" * 9_999 + "\r\n"
    second = part.format("Content-Transfer-Encoding: base64\r\n") if broken == "base64" else part.format("")
    gc.disable()
    try:
        reply = client.post(URL, part.format("") + second + "--x--\r\n", content_type="multipart/form-data; boundary=x")
        assert (reply.status_code, list(tmp_path.iterdir())) == (400, [])
    finally:
        gc.enable()


def test_upload_that_is_no_music(client: Client, library: Music, tmp_path: Path) -> None:
    DAMAGED["random bytes"].write(tmp_path / "x.mp3")
    reply = send(client, (tmp_path / "x.mp3").read_bytes())
    assert (reply.status_code, reply["Content-Type"]) == (422, "application/problem+json")
    assert "cannot be heard" in reply.json()["detail"]


def test_upload_beyond_the_limit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.SearchView, "body_limit", 100_000)
    reply = send(client, bytes(200_000))
    assert (reply.status_code, reply["Content-Type"]) == (413, "application/problem+json")


def test_json_is_limited_as_everywhere(client: Client, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    reply = client.post(URL, json.dumps({"texts": ["x" * 2000]}), content_type="application/json")
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:navembed:problem:too_large")


def test_long_upload_is_given_up(client: Client, library: Music, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "embed_upload", lambda path, models: upload.embed_upload(path, models, seconds=0.0))
    reply = send(client, (library.root / "track3.flac").read_bytes())
    assert (reply.status_code, "not heard within" in reply.json()["detail"]) == (503, True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"track_ids": []},
        {"texts": "piano"},
        {"track_ids": ["a"], "limit": 501},
        {"track_ids": ["a"], "models": ["vggish"]},
        {"texts": ["x"] * 21},
        {"track_ids": ["a"], "diversity": 2},
    ],
)
def test_wrong_search(client: Client, body: dict[str, Any]) -> None:
    reply = client.post(URL, json.dumps(body), content_type="application/json")
    assert (reply.status_code, "errors" in reply.json()) == (400, True)


def test_search_without_a_file_in_a_form(client: Client) -> None:
    assert "audio" in client.post(URL, {"limit": "3"}).json()["errors"]


def test_nothing_embedded_is_a_warning(client: Client, milvus: LiteServer) -> None:
    answer = ask(client, track_ids=["a"])
    assert answer["results"] == []
    assert answer["warnings"]
