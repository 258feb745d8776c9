"""Every format of a music library, written and read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soxr

from navembed_site.demo.encode import FORMATS, Format, write_audio
from tests.audio.conftest import MONO, STEREO, decode_whole, likeness
from tests.audio_files import tone, write_dsf


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_format_comes_back_as_it_was_written(suffix: str, channels: int, tmp_path: Path) -> None:
    piece = tone(4, channels=channels)
    write_audio(tmp_path / f"piece{suffix}", piece, 44_100)
    waveforms, summary = decode_whole(tmp_path / f"piece{suffix}")
    heard = waveforms[MONO][0]
    assert (summary.errors, summary.note) == (0, "")
    assert summary.audio_seconds == pytest.approx(4, abs=0.07)
    assert likeness(heard, soxr.resample(piece.mean(axis=0), 44_100, 24_000)) > 0.97


@pytest.mark.parametrize("suffix", [suffix for suffix, form in FORMATS.items() if form.lossless])
def test_a_lossless_format_keeps_every_sample(suffix: str, tmp_path: Path) -> None:
    piece = (np.round(tone(2) * 32_768) / 32_768).astype(np.float32)
    write_audio(tmp_path / f"piece{suffix}", piece, 44_100)
    waveforms, _ = decode_whole(tmp_path / f"piece{suffix}", [STEREO])
    np.testing.assert_array_equal(waveforms[STEREO], piece)


def test_dsd_is_decoded(tmp_path: Path) -> None:
    piece = tone(2)
    write_dsf(tmp_path / "piece.dsf", piece, 44_100)
    waveforms, summary = decode_whole(tmp_path / "piece.dsf")
    assert summary.codec.startswith("dsd")
    assert likeness(waveforms[MONO][0], soxr.resample(piece.mean(axis=0), 44_100, 24_000)) > 0.97


@pytest.mark.parametrize(("suffix", "rate"), [(".mp3", 22_050), (".opus", 44_100), (".ac3", 22_050)])
def test_a_rate_the_codec_lacks_is_resampled_when_written(suffix: str, rate: int, tmp_path: Path) -> None:
    piece = tone(3, rate)
    write_audio(tmp_path / f"piece{suffix}", piece, rate)
    waveforms, _ = decode_whole(tmp_path / f"piece{suffix}")
    assert likeness(waveforms[MONO][0], soxr.resample(piece.mean(axis=0), rate, 24_000)) > 0.97


@pytest.mark.parametrize("suffix", [".flac", ".wv", ".opus", ".m4a"])
@pytest.mark.parametrize("channels", [6, 8])
def test_surround_sound_is_mixed(suffix: str, channels: int, tmp_path: Path) -> None:
    piece = tone(3, channels=channels)
    write_audio(tmp_path / f"piece{suffix}", piece, 44_100)
    waveforms, summary = decode_whole(tmp_path / f"piece{suffix}", [MONO, STEREO])
    assert summary.channels == channels
    assert waveforms[STEREO].shape[0] == 2
    assert likeness(waveforms[MONO][0], soxr.resample(piece.mean(axis=0), 44_100, 24_000)) > 0.97


def test_integers_of_64_bits_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, ".s64.wav", Format("wav", "pcm_s64le"))
    write_audio(tmp_path / "piece.s64.wav", tone(2), 44_100)
    waveforms, _ = decode_whole(tmp_path / "piece.s64.wav", [STEREO])
    np.testing.assert_allclose(waveforms[STEREO], tone(2), atol=1e-6)


def test_the_audio_of_a_video_is_decoded(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as output:
        pictures = output.add_stream("mpeg4", rate=25, width=64, height=64)
        sound = output.add_stream("aac", rate=44_100, layout="mono")
        for _ in range(50):
            output.mux(pictures.encode(av.VideoFrame(64, 64, "yuv420p")))
        frame = av.AudioFrame.from_ndarray(tone(2, channels=1), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    _, summary = decode_whole(tmp_path / "clip.mp4")
    assert summary.audio_seconds == pytest.approx(2, abs=0.07)


def test_an_unknown_suffix_is_refused_when_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no format for this suffix"):
        write_audio(tmp_path / "piece.xyz", tone(1), 44_100)
