"""The built plugin, run as Navidrome runs it, against navembed as it is served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django.live_server_helper import LiveServer

from tests.search.conftest import Library
from tests.stock.navidrome import Host

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="session")
def built() -> Host:
    """The plugin, compiled once; built by what `make plugin` runs, unless its sources are the same."""
    command = [sys.executable, settings.BASE_DIR / "plugin" / "build.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Host(Path(done.stdout.strip()))


@pytest.fixture
def host(built: Host) -> Host:
    built.reset()
    return built


@pytest.fixture
def navidrome(host: Host, live_server: LiveServer, music: Library, secret: str) -> Host:
    """Connected to navembed with thirty tracks."""
    host.settings = {"address": live_server.url, "token": secret, "models": ["muq"]}
    return host


def ids(songs: list[dict[str, Any]]) -> list[str]:
    return [each["id"] for each in songs]


def test_songs_like_a_track(navidrome: Host) -> None:
    songs = navidrome.call("nd_get_similar_songs_by_track", id="t01", name="A", artist="B", count=7)["songs"]
    assert len(songs) == 7
    assert songs[0].keys() == {"id", "name", "duration"}
    assert 'navembed: 7 songs like the track "A" by "B" (t01)' in navidrome.log()
