"""Files that are made oddly, judged by the vector of the same music in a plain stereo file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from embeddings.embedder.pipeline import Pipeline
from embeddings.embedder.work import TrackOutcome
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from navembed_site.demo.encode import write_audio
from tests.audio.conftest import MONO, STEREO, decode_whole
from tests.audio.test_parts import joined
from tests.audio_files import tone
from tests.embedder.conftest import asked

RATE = 44_100
SECONDS = 6
Audio = NDArray[np.float32]
PLAIN = tone(SECONDS)
QUIET = PLAIN * np.float32(0.1)
ONE = tone(SECONDS, channels=1)


def among(channels: int) -> Audio:
    """The same music with further channels, which are silent."""
    waveform = np.zeros((channels, PLAIN.shape[1]), np.float32)
    waveform[:2] = PLAIN
    return waveform


CASES: dict[str, tuple[Audio, Audio]] = {
    "channels that cancel out": (np.concatenate([ONE, -ONE]), np.concatenate([ONE, ONE])),
    "channels that almost cancel out": (np.concatenate([ONE, -0.9 * ONE]), np.concatenate([ONE, 0.9 * ONE])),
    "mono": (ONE, np.concatenate([ONE, ONE])),
    "5.1": (among(6), PLAIN),
    "7.1": (among(8), PLAIN),
    "16 bits as floats": (PLAIN * np.float32(2**15), PLAIN),
    "quiet 16 bits as floats": (QUIET * np.float32(2**15), QUIET),
    "24 bits as floats": (PLAIN * np.float32(2**23), PLAIN),
    "another rate": (soxr.resample(PLAIN.T, RATE, 96_000).T, PLAIN),
}
Embed = Callable[[Path], dict[str, Audio]]


@pytest.fixture
def embed(pipeline: Pipeline) -> Embed:
    def vectors(path: Path) -> dict[str, Audio]:
        (outcome,) = (each for each in pipeline.embed([asked(path)]) if isinstance(each, TrackOutcome))
        assert not outcome.failures
        return {model: found.vector for model, found in outcome.vectors.items()}

    return vectors


def likenesses(one: dict[str, Audio], other: dict[str, Audio]) -> dict[str, float]:
    return {model: float(one[model] @ other[model]) for model in MODEL_KEYS}


@pytest.mark.parametrize("name", CASES)
def test_odd_file_has_the_vector_of_the_plain_one(name: str, embed: Embed, tmp_path: Path) -> None:
    for file, waveform in zip(("odd.wav", "plain.wav"), CASES[name], strict=True):
        rate = waveform.shape[1] // SECONDS
        soundfile.write(tmp_path / file, waveform.T, rate, subtype="FLOAT")
    found = likenesses(embed(tmp_path / "odd.wav"), embed(tmp_path / "plain.wav"))
    assert min(found.values()) >= 0.99, found


def test_names_do_not_matter(embed: Embed, tmp_path: Path) -> None:
    write_audio(tmp_path / "plain.flac", PLAIN, RATE)
    odd = tmp_path / "caf\udce9\nconcat:%s.m3u8"
    odd.write_bytes((tmp_path / "plain.flac").read_bytes())
    found = likenesses(embed(odd), embed(tmp_path / "plain.flac"))
    assert min(found.values()) >= 0.9999, found


@pytest.mark.parametrize("suffix", [".mp3", ".aac", ".flac", ".ogg", ".opus"])
def test_stream_that_changes_midway_has_the_vector_of_its_parts_in_a_row(
    suffix: str, embed: Embed, tmp_path: Path
) -> None:
    rates = (48_000, 24_000) if suffix == ".opus" else (44_100, 22_050)
    found = embed(joined(tmp_path, suffix, (rates[0], 1), (rates[1], 2)))
    for wanted in (MONO, STEREO):
        parts = [decode_whole(tmp_path / f"{number}{suffix}", [wanted])[0][wanted] for number in (0, 1)]
        plain = np.concatenate(parts, axis=1)
        soundfile.write(tmp_path / "plain.wav", plain.T, wanted.sample_rate, subtype="FLOAT")
        for model, vector in embed(tmp_path / "plain.wav").items():
            if encoder_class(model).audio == wanted:
                assert vector @ found[model] >= 0.99, (suffix, model, vector @ found[model])
