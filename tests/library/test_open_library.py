"""Which library the settings choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import LibraryUnavailable, NoSuchTracks
from embeddings.library import open_library, require_tracks
from tests.navidrome_db import make_navidrome


def test_navidrome_is_opened_with_its_folders(tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "n.db", libraries={1: "/music", 2: "/more", 3: "/third"})
    settings.NAVIDROME_MUSIC_ROOT = Path("/nas")
    settings.LIBRARY_PATH_MAP = {2: Path("/two")}
    assert open_library().folders() == {1: Path("/nas"), 2: Path("/two"), 3: Path("/third")}


def test_a_folder_is_opened(tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path
    assert open_library().folders() == {1: tmp_path}


@pytest.mark.parametrize(
    ("library", "variable"), [("navidrome", "NAVIDROME_DB_PATH"), ("folder", "NAVIDROME_MUSIC_ROOT")]
)
def test_a_library_that_is_not_configured_names_its_variable(settings: Any, library: str, variable: str) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH, settings.NAVIDROME_MUSIC_ROOT = library, None, None
    with pytest.raises(LibraryUnavailable, match=variable):
        open_library()


@pytest.mark.parametrize(
    ("library_id", "prefix", "told"),
    [
        (99, "", r"there is no library 99; there are: 1 \(Library 1\), 2 \(Library 2\)"),
        (None, "/nowhere", "no track's path begins with /nowhere; the music lies in /music, /more"),
        (2, "/music/a", "no track's path begins with /music/a"),
    ],
)
def test_tracks_that_nobody_has_are_refused(
    tmp_path: Path, settings: Any, library_id: int | None, prefix: str, told: str
) -> None:
    rows = [{"id": "a", "path": "a.mp3"}, {"id": "b", "path": "b.mp3", "library_id": 2}]
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "n.db", rows, libraries={1: "/music", 2: "/more"})
    require_tracks(2, "/more/b")
    with pytest.raises(NoSuchTracks, match=told):
        require_tracks(library_id, prefix)


def test_library_that_is_away_refuses_nothing(tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path / "none.db"
    require_tracks(99, "/nowhere")
