"""The same numbers as librosa, whatever the sample format and the size of the blocks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest

from embeddings.audio.waveform import LOUDEST, Mono, sanitise, to_stereo
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


@pytest.mark.parametrize("channels", [1, 2])
def test_mono_equals_librosa_for_mono_and_stereo(channels: int, write_wav: Callable[..., Path]) -> None:
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
    left, right = to_stereo(np.eye(6, dtype=np.float32), speakers)
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


@pytest.mark.parametrize("channels", [6, 8, 12])
def test_a_stereo_mix_in_more_channels_is_as_loud_as_in_two(channels: int, write_wav: Callable[..., Path]) -> None:
    piece = np.zeros((channels, 88_200), np.float32)
    piece[:2] = tone(2)
    waveforms, _ = decode_whole(write_wav(piece, 44_100, "FLOAT"), [MONO, STEREO])
    np.testing.assert_array_equal(waveforms[STEREO], tone(2))
    alone, _ = decode_whole(write_wav(tone(2), 44_100, "FLOAT"))
    np.testing.assert_allclose(waveforms[MONO], alone[MONO], atol=1e-6)


def test_channels_that_cancel_out_leave_the_stronger_one(write_wav: Callable[..., Path]) -> None:
    piece = tone(4, channels=1)
    opposed = np.concatenate([piece, -0.9 * piece])
    waveforms, _ = decode_whole(write_wav(opposed, 44_100, "FLOAT"))
    alone, _ = decode_whole(write_wav(piece, 44_100, "FLOAT"))
    np.testing.assert_array_equal(waveforms[MONO], alone[MONO])


def test_the_stronger_channel_stays_the_same_while_channels_cancel_out() -> None:
    piece, mono = tone(1, channels=1), Mono()
    first = mono.mixed(np.concatenate([piece, -0.9 * piece]), ["FL", "FR"])
    second = mono.mixed(np.concatenate([0.9 * piece, -piece]), ["FL", "FR"])
    np.testing.assert_allclose(second, 0.9 * first, rtol=1e-6)


@pytest.mark.parametrize("scale", [2**7, 2**15, 2**31])
def test_integers_written_as_floats_are_scaled(scale: int, write_wav: Callable[..., Path]) -> None:
    piece = tone(3) * np.float32(0.9 / np.abs(tone(3)).max())
    waveforms, _ = decode_whole(write_wav(piece * np.float32(scale), 44_100, "FLOAT"), [STEREO])
    np.testing.assert_array_equal(waveforms[STEREO], piece)


def test_a_broken_sample_does_not_decide_the_scale(write_wav: Callable[..., Path]) -> None:
    piece = tone(3)
    piece[0, 1_000] = 3e38
    waveforms, _ = decode_whole(write_wav(piece, 44_100, "FLOAT"), [STEREO])
    np.testing.assert_array_equal(waveforms[STEREO][1], piece[1])
