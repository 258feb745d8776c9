"""A job over a library whose music lies in a music server alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batches import services
from batches.requests import JobRequest
from embeddings.library import fetching
from embeddings.library.listing import WORK
from embeddings.models import Embedding, Track
from tests.batches.conftest import Music, RunToEnd
from tests.batches.whole_jobs import run_until_waiting
from tests.subsonic import PASSWORD, SubsonicServer, subsonic_server


@pytest.fixture
def server(music: Music, settings: Any, tmp_path: Path) -> Iterator[SubsonicServer]:
    """Three tracks, of which the server has lost one; its paths are made up."""
    settings.LIBRARY, settings.CACHE_DIR, settings.NAVIDROME_MUSIC_ROOT = "subsonic", tmp_path / "cache", None
    settings.LIBRARY_PATH_MAP = {}
    served = SubsonicServer(files=dict(zip("ab", music.pool, strict=False)))
    for track_id in "abc":
        told = {
            "id": track_id,
            "title": track_id,
            "duration": 2,
            "size": 9,
            "path": f"A/B/{track_id}.flac",
            "folder": 1,
        }
        served.songs.append(told)
    with subsonic_server(served):
        settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = served.url, "ann", PASSWORD
        yield served


def fetched(folder: Path) -> list[Path]:
    return list(folder.glob(f"cache/{WORK}*"))


@pytest.mark.usefixtures("milvus", "embedder", "no_pauses")
def test_music_is_fetched_embedded_and_not_kept(server: SubsonicServer, run_to_end: RunToEnd, tmp_path: Path) -> None:
    job = run_to_end(services.start_job(JobRequest(["muq"])))
    assert (job.processed_tracks, job.failed_tracks) == (2, 0)
    assert set(Embedding.objects.values_list("track_id", flat=True)) == {"a", "b"}
    assert dict(Track.objects.values_list("pk", "playable")) == {"a": True, "b": True, "c": False}
    assert fetched(tmp_path) == []


@pytest.mark.usefixtures("milvus", "embedder", "no_pauses")
def test_a_server_that_is_away_makes_the_job_wait(
    server: SubsonicServer, run_to_end: RunToEnd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = SubsonicServer.on_stream

    def breaks_down(self: SubsonicServer, user: str, form: Any) -> dict[str, Any]:
        self.status = 503
        return stream(self, user, form)

    job = services.start_job(JobRequest(["muq"]))
    with monkeypatch.context() as patch:
        patch.setattr(SubsonicServer, "on_stream", breaks_down)
        assert "HTTP status 503" in run_until_waiting(job, monkeypatch)
    assert fetched(tmp_path) == []
    server.status = 200
    assert run_to_end(job).processed_tracks == 2


def fetch_nothing() -> int:
    """As a host does that only computes, and never keeps house."""
    with fetching.fetched([], lambda: None):
        return 1


@pytest.mark.parametrize("forget_left_behind", [fetching.forget_left_behind, fetch_nothing])
def test_what_killed_processes_have_left_goes_after_a_day(
    settings: Any, tmp_path: Path, forget_left_behind: Callable[[], int]
) -> None:
    settings.CACHE_DIR, settings.LIBRARY = tmp_path / "cache", "subsonic"
    settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = "http://127.0.0.1:9", "ann", PASSWORD
    old, new, other = (settings.CACHE_DIR / name for name in (f"{WORK}old", f"{WORK}new", "old"))
    for folder in (old, new, other):
        folder.mkdir(parents=True)
    for folder in (old, other):
        os.utime(folder, (0, 0))
    assert (forget_left_behind(), old.exists(), new.exists(), other.exists()) == (1, False, True, True)
