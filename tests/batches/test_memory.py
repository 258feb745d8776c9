"""The memory of a time slice, which lives in the worker, does not grow with the number of tracks."""

from __future__ import annotations

from pathlib import Path

import pytest

from batches import services
from tests.batches.conftest import Music, RunToEnd
from tests.instances import EmbedderProcess
from tests.milvus import LiteServer


def peak_of_job(music: Music, run_to_end: RunToEnd, prefix: str, tracks: int) -> float:
    """Embed so many more tracks; returns this process's peak meanwhile in megabytes."""
    for number in range(tracks):
        music.add(f"{prefix}{number}.flac", seed=number)
    Path("/proc/self/clear_refs").write_text("5")
    assert run_to_end(services.start_job()).processed_tracks == tracks
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1_024


@pytest.mark.soak
@pytest.mark.timeout(1_800)
@pytest.mark.django_db
def test_a_job_of_a_thousand_tracks_takes_no_more_memory_than_one_of_a_hundred(
    music: Music, run_to_end: RunToEnd, embedder: EmbedderProcess, milvus: LiteServer
) -> None:
    few = peak_of_job(music, run_to_end, "few", 100)
    many = peak_of_job(music, run_to_end, "many", 1_000)
    print(f"\n100 tracks: {few:.0f} MB, 1,000 more: {many:.0f} MB")
    assert many < 1.1 * few
