"""What the tests of playlists share: a music server, and a library whose tracks sound like something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.milvus import lite_server, milvus
from tests.search.conftest import library, music
from tests.subsonic import PASSWORD, SubsonicServer, subsonic_server

__all__ = ["library", "lite_server", "milvus", "music"]


@pytest.fixture
def server(settings: Any) -> Iterator[SubsonicServer]:
    """A music server, in which the settings name ann."""
    with subsonic_server(SubsonicServer()) as served:
        settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = served.url, "ann", PASSWORD
        yield served
