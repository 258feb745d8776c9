"""Several hosts see the same music at different places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embeddings.library.places import keep_places, places
from embeddings.library.sync import sync_tracks
from embeddings.models import MusicFolder, Track
from navembed_site.process.host import host_key
from tests.navidrome_db import make_navidrome

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def library(tmp_path: Path, settings: Any) -> Any:
    """Navidrome's two libraries; sets which host reads it, and where its music lies there."""
    database = make_navidrome(
        tmp_path / "navidrome.db", [{"id": "a", "path": "a.flac"}], libraries={1: "/music", 2: "/music/more"}
    )
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = database
    return settings


def keep(number: int, path: str, host: str = "other") -> None:
    MusicFolder.objects.create(library_id=number, path=path, host=host)


def test_the_first_host_decides_how_paths_are_kept(library: Any) -> None:
    sync_tracks()
    assert set(MusicFolder.objects.values_list("library_id", "path", "host")) == {
        (1, "/music", host_key()),
        (2, "/music/more", host_key()),
    }
    assert places().file("/music/a.flac") == "/music/a.flac"


def test_its_paths_follow_when_its_folder_changes(library: Any) -> None:
    sync_tracks()
    library.LIBRARY_PATH_MAP = {1: Path("/nas")}
    sync_tracks()
    assert (MusicFolder.objects.get(pk=1).path, Track.objects.get().path) == ("/nas", "/nas/a.flac")


def test_another_host_finds_the_files_where_they_lie_there(library: Any) -> None:
    keep(1, "/music")
    keep(2, "/music/more")
    library.LIBRARY_PATH_MAP = {1: Path("/mnt/nas"), 2: Path("/mnt/more")}
    assert places().file("/music/x/a.flac") == "/mnt/nas/x/a.flac"
    assert places().file("/music/more/b.flac") == "/mnt/more/b.flac"
    assert places().path_kept("/mnt/nas/x/a.flac") == "/music/x/a.flac"


def test_another_host_changes_no_paths(library: Any) -> None:
    keep(1, "/elsewhere")
    sync_tracks()
    assert Track.objects.get().path == "/elsewhere/a.flac"
    assert keep_places().file("/elsewhere/a.flac") == "/music/a.flac"


def test_a_host_without_a_library_has_its_own_map(library: Any) -> None:
    keep(1, "/music")
    keep(3, "/third")
    library.NAVIDROME_DB_PATH = None
    library.LIBRARY_PATH_MAP = {3: Path("/mnt/third")}
    assert [places().file(path) for path in ("/music/a", "/third/b", "/nowhere/c")] == [
        "/music/a",
        "/mnt/third/b",
        "/nowhere/c",
    ]


def test_names_that_are_no_utf8_are_found(library: Any) -> None:
    keep(1, "/music")
    library.LIBRARY_PATH_MAP = {1: Path("/n\udcff")}
    assert places().file("/music/a") == "/n\udcff/a"
