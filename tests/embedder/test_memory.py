"""The peak memory of the embedder and its decoders grows neither with the number nor with the length of tracks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from embeddings.embedder.client import EmbedderClient
from embeddings.embedder.work import TrackOutcome, TrackRequest
from tests.audio_files import write_long
from tests.embedder.conftest import asked
from tests.instances import EmbedderProcess

CHUNK = 50  # about what a job sends at a time
IDLE_CHECK_SECONDS = 0.5
IMPATIENT = f"from embeddings.embedder import embedder; embedder.IDLE_CHECK_SECONDS = {IDLE_CHECK_SECONDS}"


@pytest.fixture(scope="module")
def embedder(embedder_process: EmbedderProcess) -> EmbedderProcess:
    """It gives memory back soon after its last work."""
    embedder_process.restart(first=IMPATIENT)
    return embedder_process


@dataclass
class Memory:
    """Megabytes of the embedder and its decoders together."""

    peak: float
    settled: float
    """What is left when nothing has been embedded for a while: what was freed is kept for the next track until then."""

    @classmethod
    def of(cls, embedder: EmbedderProcess) -> Memory:
        texts = [Path(f"/proc/{process.pid}/status").read_text() for process in family(embedder)]
        peak, settled = (
            sum(int(text.partition(name)[2].split()[0]) for text in texts) / 1_024 for name in ("VmHWM:", "VmRSS:")
        )
        return cls(peak, settled)


def family(embedder: EmbedderProcess) -> list[psutil.Process]:
    process = psutil.Process(embedder.pid)
    return [process, *process.children(recursive=True)]


def reset_peaks(embedder: EmbedderProcess) -> None:
    for process in family(embedder):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def embed(requests: list[TrackRequest]) -> None:
    events = EmbedderClient(timeout=120).embed(requests)
    outcomes = [event for event in events if isinstance(event, TrackOutcome)]
    assert len(outcomes) == len(requests)
    assert not any(outcome.failures for outcome in outcomes)


def after_tracks(embedder: EmbedderProcess, path: Path, count: int) -> Memory:
    """Embed one file under many ids with all models; the peak is that since the embedder's start."""
    for start in range(0, count, CHUNK):
        embed([asked(path, id=str(n)) for n in range(start, min(count, start + CHUNK))])
    time.sleep(IDLE_CHECK_SECONDS + 2)
    return Memory.of(embedder)


def peak_of_file(embedder: EmbedderProcess, path: Path) -> float:
    time.sleep(IDLE_CHECK_SECONDS + 2)  # what was freed is given back
    reset_peaks(embedder)
    embed([asked(path, "muq")])
    return Memory.of(embedder).peak


def check_number(embedder: EmbedderProcess, songs: dict[str, Path], few: int, many: int) -> None:
    before = after_tracks(embedder, songs["short.wav"], few)
    after = after_tracks(embedder, songs["short.wav"], many - few)
    print(f"\n{few} tracks: {before}, {many} tracks: {after}")
    # How many items meet in a batch is chance, and the peak with it.
    assert after.peak < 1.2 * before.peak
    assert after.settled < before.settled + 64


def check_length(embedder: EmbedderProcess, folder: Path, short_minutes: int, long_minutes: int) -> None:
    write_long(folder / "short.wav", short_minutes / 60)
    write_long(folder / "long.wav", long_minutes / 60)
    peak_of_file(embedder, folder / "short.wav")  # batches grow to their full size
    # How many items meet in a batch is chance, and the peak with it; growth would show each time.
    most = 1.2 * max(peak_of_file(embedder, folder / "short.wav") for _ in range(3))
    assert any(peak_of_file(embedder, folder / "long.wav") < most for _ in range(3))


def test_memory_does_not_grow_with_the_number_of_tracks(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    check_number(embedder, songs, 20, 50)


def test_memory_does_not_grow_with_the_length_of_a_track(embedder: EmbedderProcess, tmp_path: Path) -> None:
    check_length(embedder, tmp_path, 5, 15)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_a_thousand_tracks_take_no_more_memory_than_a_hundred(
    embedder: EmbedderProcess, songs: dict[str, Path]
) -> None:
    embedder.restart(first=IMPATIENT)
    check_number(embedder, songs, 100, 1_000)


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_three_hours_take_no_more_memory_than_half_an_hour(embedder: EmbedderProcess, tmp_path: Path) -> None:
    embedder.restart(first=IMPATIENT)
    check_length(embedder, tmp_path, 30, 180)
