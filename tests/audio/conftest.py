from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.audio.decode import AudioSummary, decode
from embeddings.encoders.base import AudioFormat

MONO = AudioFormat(24_000, 1)
STEREO = AudioFormat(44_100, 2)

Whole = tuple[dict[AudioFormat, NDArray[np.float32]], AudioSummary]


def decode_whole(path: Path, formats: Sequence[AudioFormat] = (MONO,), block_seconds: float = 120) -> Whole:
    """All blocks joined, and the summary."""
    *blocks, summary = decode(str(path), formats, block_seconds=block_seconds)
    assert isinstance(summary, AudioSummary)
    whole = {
        wanted: np.concatenate([block[wanted] for block in blocks if isinstance(block, dict)], axis=1)
        for wanted in formats
    }
    return whole, summary


def likeness(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Highest normalised cross-correlation of two mono signals: codecs delay by some milliseconds."""
    size = 2 * max(len(one), len(other))
    product = np.fft.rfft(one, size) * np.fft.rfft(other, size).conj()
    return float(np.fft.irfft(product).max() / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Write [channels, samples] with libsndfile, which knows sample formats that ``write_audio`` does not."""

    def write(waveform: NDArray[np.floating], rate: int, subtype: str, suffix: str = ".wav") -> Path:
        import soundfile

        path = tmp_path / f"written{suffix}"
        soundfile.write(path, waveform.T, rate, subtype=subtype)
        return path

    return write
