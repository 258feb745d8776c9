"""Listening: pieces of files, of tracks alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from embeddings.library import fetching
from embeddings.models import Track
from navembed_site.console.audio import MOST_BYTES
from tests.batches.rows import make_track
from tests.subsonic import PASSWORD, SubsonicServer, subsonic_server

pytestmark = pytest.mark.django_db

CONTENT = bytes(range(256)) * 8000


@pytest.fixture
def track(tmp_path: Path) -> Track:
    (tmp_path / "a.flac").write_bytes(CONTENT)
    return make_track("a", path=str(tmp_path / "a.flac"))


def ask(client: Client, wanted: str = "") -> Any:
    return client.get("/admin/audio/a", headers={"Range": wanted} if wanted else {})


def test_whole_file(admin_client: Client, track: Track) -> None:
    reply = ask(admin_client)
    assert (reply.status_code, reply["Content-Type"], reply["Accept-Ranges"]) == (200, "audio/flac", "bytes")
    assert b"".join(reply) == CONTENT


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-", 0, MOST_BYTES - 1), ("bytes=5-9", 5, 9), ("bytes=-10", len(CONTENT) - 10, len(CONTENT) - 1)],
)
def test_a_piece(admin_client: Client, track: Track, wanted: str, first: int, last: int) -> None:
    reply = ask(admin_client, wanted)
    assert (reply.status_code, reply["Content-Range"]) == (206, f"bytes {first}-{last}/{len(CONTENT)}")
    assert b"".join(reply) == CONTENT[first : last + 1]


@pytest.mark.parametrize("wanted", [f"bytes={len(CONTENT)}-", "bytes=9-5", "bytes=-0"])
def test_a_piece_that_is_not_there(admin_client: Client, track: Track, wanted: str) -> None:
    assert ask(admin_client, wanted).status_code == 416


@pytest.mark.parametrize("wanted", ["bytes=0-5,7-9", "lines=1-2", "bytes=x-"])
def test_odd_ranges_get_the_whole_file(admin_client: Client, track: Track, wanted: str) -> None:
    reply = ask(admin_client, wanted)
    assert (reply.status_code, len(b"".join(reply))) == (200, len(CONTENT))


def test_only_what_the_library_has(admin_client: Client, track: Track) -> None:
    Track.objects.update(playable=False)
    assert ask(admin_client).status_code == 404
    assert admin_client.get(f"/admin/audio/{track.path}").status_code == 404


def test_a_file_that_is_away_is_not_found(admin_client: Client, track: Track) -> None:
    Path(track.path).unlink()
    assert ask(admin_client).status_code == 404


@pytest.fixture
def streamed(settings: Any, tmp_path: Path) -> Iterator[SubsonicServer]:
    """The music lies in a music server alone; its paths are made up."""
    (tmp_path / "a").write_bytes(CONTENT)
    make_track("a", path="/nowhere/a.flac")
    settings.LIBRARY, settings.CACHE_DIR, settings.NAVIDROME_MUSIC_ROOT = "subsonic", tmp_path / "cache", None
    settings.LIBRARY_PATH_MAP = {}
    with subsonic_server(SubsonicServer(files={"a": tmp_path / "a"})) as server:
        settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = server.url, "ann", PASSWORD
        yield server


def test_music_of_a_server_is_fetched_once_and_heard_in_pieces(admin_client: Client, streamed: SubsonicServer) -> None:
    for wanted, first, last in (("bytes=0-", 0, MOST_BYTES - 1), ("bytes=5-9", 5, 9)):
        reply = ask(admin_client, wanted)
        assert (reply.status_code, reply["Content-Type"]) == (206, "audio/flac")
        assert b"".join(reply) == CONTENT[first : last + 1]
    assert streamed.names() == ["stream"]


def test_only_a_few_files_of_a_server_are_kept(
    admin_client: Client, streamed: SubsonicServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fetching, "MOST_HEARD", 2)
    for name in "bcd":
        make_track(name)
        streamed.files[name] = tmp_path / "a"
        assert b"".join(admin_client.get(f"/admin/audio/{name}")) == CONTENT  # type: ignore[arg-type]
    assert len(list((tmp_path / "cache" / fetching.HEARD).iterdir())) == 2


def test_what_a_server_does_not_have_or_give_is_not_found(admin_client: Client, streamed: SubsonicServer) -> None:
    streamed.files.clear()
    assert ask(admin_client).status_code == 404
    streamed.status = 503
    assert ask(admin_client).status_code == 404


def test_only_staff_listens(client: Client, track: Track, django_user_model: Any) -> None:
    client.force_login(django_user_model.objects.create_user("guest"))
    assert ask(client).status_code == 302
