"""Uploads over HTTP: the same answer, and tracks that can be fetched."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from django.contrib.auth.models import User
from django.test import Client

from embeddings.api.contract import embed_audio as embed_audio_module
from embeddings.models import UploadEmbedding
from embeddings.uploads import folder
from embeddings.uploads.service import in_this_process
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.instances import EmbedderProcess
from tests.uploads.sheets import FILE, ONE, sheet

Arrived = Callable[..., Path]
ADDRESS = "/api/v1/uploads"
SHEET = sheet(FILE, *ONE, "TRACK 02 AUDIO", "INDEX 01 00:01:00")


@pytest.fixture
def web(transactional_db: None) -> Iterator[Client]:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    yield client
    in_this_process().close()
    in_this_process.cache_clear()
    shutil.rmtree(folder._all(), ignore_errors=True)


def post(web: Client, path: Path, **fields: Any) -> Any:
    with path.open("rb") as file:
        return web.post(ADDRESS, {"file": file, **fields})


def kept() -> list[str]:
    return [path.name for each in folder._all().glob("*") for path in each.iterdir()]


def test_a_file_is_embedded_and_not_kept(web: Client, embedder: EmbedderProcess, arrived: Arrived) -> None:
    reply = post(web, arrived(), name="song.flac")
    assert reply.json() == {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False}
    assert UploadEmbedding.objects.get().name == "song.flac"
    assert kept() == []


def test_tracks_can_be_fetched_for_a_day(web: Client, arrived: Arrived, settings: Any) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0
    reply = post(web, arrived(), cue=io.BytesIO(SHEET), settings=json.dumps({"useMetadata": False}))
    first, second = reply.json()["splitFiles"]
    assert "path" not in first
    fetched = web.get(second["url"])
    assert soundfile.info(io.BytesIO(b"".join(fetched.streaming_content))).frames == 44_100
    assert sorted(kept()) == ["001.flac", "002.flac"]
    assert folder.forget_old() == 0
    for each in folder._all().glob("*"):
        os.utime(each, (0, 0))
    assert folder.forget_old() == 1
    assert web.get(second["url"]).status_code == 404


def test_what_is_no_music_is_refused(web: Client, tmp_path: Path) -> None:
    (tmp_path / "words.mp3").write_bytes(b"This is no music.\n" * 500)
    reply = post(web, tmp_path / "words.mp3", name="words.mp3")
    assert reply.status_code == 422
    assert "words.mp3 is not music that can be read" in reply.json()["detail"]
    assert kept() == []


def test_wrong_fields_are_refused(web: Client, arrived: Arrived) -> None:
    assert web.post(ADDRESS, {"name": "x"}).status_code == 400
    for wrong in ("{", "[]", "7"):
        assert post(web, arrived(), settings=wrong).status_code == 400


def test_it_needs_the_scope_to_operate(transactional_db: None, arrived: Arrived) -> None:
    assert post(Client(), arrived()).status_code == 401
    token = create_token("reader", Scope.READ, created_by="test")
    assert Client(headers={"Authorization": f"Bearer {token.secret}"}).post(ADDRESS).status_code == 403


# As later versions of the fork send them


def embed_audio(web: Client, body: bytes) -> Any:
    return web.post("/embed/audio", body, content_type="application/json")


def in_json(path: Path, **fields: Any) -> bytes:
    data = base64.b64encode(path.read_bytes()).decode()
    return json.dumps({"name": "song.flac", "music_file": "/tmp/x/y.flac", "music_data_b64": data} | fields).encode()


def test_a_file_in_json_is_answered_as_on_the_socket(
    web: Client, arrived: Arrived, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0
    monkeypatch.setattr(embed_audio_module, "CHUNK", 1_000)
    reply = embed_audio(web, in_json(arrived(), cue_data_b64=base64.b64encode(SHEET).decode(), cue_file="/tmp/x/y.cue"))
    found = reply.json()["splitFiles"]
    assert [soundfile.info(each["path"]).frames for each in found] == [44_100, 44_100]


def test_what_is_no_upload_is_refused(web: Client) -> None:
    no_music = b'{"music_file": "/x", "music_data_b64": "QUJD"}'
    for body in (b"", b"{}", b"[]", b'{"music_file": "/etc/hostname"}', no_music):
        reply = embed_audio(web, body)
        assert (reply.status_code, list(reply.json())) == (422, ["error"])
    assert kept() == []


def test_what_is_no_base64_is_refused(web: Client) -> None:
    for data in (b"!!!", b"QUJD", b"QQ"):
        assert embed_audio(web, b'{"music_file": "/x", "music_data_b64": "' + data).status_code == 400
    assert embed_audio(web, b'{"music_data_b64": "???"}').status_code == 400
    assert kept() == []
