"""The same numbers as librosa, whatever the sample format and the size of the blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest

from embeddings.audio.waveform import LOUDEST, downmix, sanitise
from tests.audio.conftest import MONO, STEREO, decode_whole
from tests.audio_files import tone

# librosa's audioread imports these when it loads its first file.
pytestmark = pytest.mark.filterwarnings("ignore:'(aifc|sunau|audioop)' is deprecated:DeprecationWarning")

H = np.sqrt(0.5)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize(("subtype", "suffix"), [("PCM_16", ".wav"), ("PCM_24", ".flac")])
def test_mono_equals_librosa_at_every_rate(
    rate: int, subtype: str, suffix: str, write_wav: Callable[..., Path]
) -> None:
    path = write_wav(tone(3.07, rate), rate, subtype, suffix)
    waveforms, _ = decode_whole(path)
    np.testing.assert_array_equal(waveforms[MONO][0], librosa.load(path, sr=24_000)[0])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_mono_equals_librosa_for_every_sample_format(subtype: str, write_wav: Callable[..., Path]) -> None:
    path = write_wav(tone(3), 44_100, subtype)
    waveforms, _ = decode_whole(path)
    np.testing.assert_array_equal(waveforms[MONO][0], librosa.load(path, sr=24_000)[0])


@pytest.mark.parametrize("channels", [1, 3, 6, 8, 12])
def test_mono_equals_librosa_for_every_number_of_channels(channels: int, write_wav: Callable[..., Path]) -> None:
    path = write_wav(tone(2, channels=channels), 44_100, "FLOAT")
    waveforms, _ = decode_whole(path)
    np.testing.assert_array_equal(waveforms[MONO][0], librosa.load(path, sr=24_000)[0])


@pytest.mark.parametrize("block_seconds", [0.01, 1, 2.5, 120])
def test_blocks_in_a_row_equal_the_whole(block_seconds: float, write_wav: Callable[..., Path]) -> None:
    path = write_wav(tone(12, 48_000), 48_000, "PCM_16", ".flac")
    waveforms, _ = decode_whole(path, [MONO, STEREO], block_seconds)
    np.testing.assert_array_equal(waveforms[MONO][0], librosa.load(path, sr=24_000)[0])
    np.testing.assert_array_equal(waveforms[STEREO], librosa.load(path, sr=44_100, mono=False)[0])


def test_mono_is_doubled_for_stereo(write_wav: Callable[..., Path]) -> None:
    waveforms, _ = decode_whole(write_wav(tone(2, channels=1), 44_100, "FLOAT"), [STEREO])
    np.testing.assert_array_equal(waveforms[STEREO], np.repeat(tone(2, channels=1), 2, axis=0))


def test_stereo_of_surround_sound_follows_the_speakers() -> None:
    speakers = ["FL", "FR", "FC", "LFE", "BL", "BR"]
    left, right = downmix(np.eye(6, dtype=np.float32), 2, speakers) * (1 + 2 * H)
    np.testing.assert_allclose(left, [1, 0, H, 0, H, 0], rtol=1e-6)
    np.testing.assert_allclose(right, [0, 1, H, 0, 0, H], rtol=1e-6)


def test_samples_that_are_no_numbers_become_silence() -> None:
    waveform = np.array([[0.5, np.nan, np.inf, -np.inf, 3e38, -2]], np.float32)
    assert sanitise(waveform) == 3
    np.testing.assert_array_equal(waveform, [[0.5, 0, 0, 0, LOUDEST, -2]])


def test_a_file_of_nan_and_inf_gives_finite_samples(write_wav: Callable[..., Path]) -> None:
    piece = tone(3)
    piece[:, ::3], piece[0, 1::300], piece[1, 2::300] = np.nan, np.inf, -3e38
    waveforms, _ = decode_whole(write_wav(piece, 44_100, "FLOAT"), [MONO, STEREO])
    assert all(np.isfinite(waveform).all() for waveform in waveforms.values())
