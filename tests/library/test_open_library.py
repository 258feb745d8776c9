"""Which library the settings choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from tests.navidrome_db import make_navidrome


def test_navidrome_is_opened_with_its_folders(tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "n.db", libraries={1: "/music", 2: "/more", 3: "/third"})
    settings.NAVIDROME_MUSIC_ROOT = Path("/nas")
    settings.LIBRARY_PATH_MAP = {2: Path("/two")}
    assert open_library().roots() == [Path("/nas"), Path("/two"), Path("/third")]


def test_a_folder_is_opened(tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path
    assert open_library().roots() == [tmp_path]


@pytest.mark.parametrize(
    ("library", "variable"), [("navidrome", "NAVIDROME_DB_PATH"), ("folder", "NAVIDROME_MUSIC_ROOT")]
)
def test_a_library_that_is_not_configured_names_its_variable(settings: Any, library: str, variable: str) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH, settings.NAVIDROME_MUSIC_ROOT = library, None, None
    with pytest.raises(LibraryUnavailable, match=variable):
        open_library()
