"""Files made of several parts, whose rate or channels change: all of it is heard, as players play it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from embeddings.audio.decode import audio_hash
from navembed_site.demo.encode import write_audio
from tests.audio.conftest import MONO, STEREO, decode_whole, likeness
from tests.audio_files import tone


def joined(
    folder: Path, suffix: str, *parts: tuple[int, int], edit: Callable[[bytes], bytes] = lambda data: data
) -> Path:
    """One file of ``parts``, (sample rate, channels), four seconds each."""
    path = folder / f"joined{suffix}"
    with path.open("wb") as file:
        for seed, (rate, channels) in enumerate(parts):
            part = folder / f"{seed}{suffix}"
            if suffix in (".ogg", ".opus"):
                subtype = "VORBIS" if suffix == ".ogg" else "OPUS"
                soundfile.write(part, tone(4, rate, channels, seed=seed).T, rate, format="OGG", subtype=subtype)
            else:
                write_audio(part, tone(4, rate, channels, seed=seed), rate)
            part.write_bytes(edit(part.read_bytes()))
            file.write(part.read_bytes())
    return path


def without_xing(mp3: bytes) -> bytes:
    """The frames of an MP3 alone, as in a stream: without tags, and without the silent frame that says its length."""
    header = max(mp3.find(b"Xing"), mp3.find(b"Info"))
    first = mp3.rfind(b"\xff", 0, header)
    return mp3[mp3.index(mp3[first : first + 2], header) :]


@pytest.mark.parametrize(
    ("suffix", "parts"),
    [
        (".mp3", [(44_100, 1), (44_100, 2)]),
        (".mp3", [(48_000, 2), (44_100, 2)]),
        (".mp3", [(22_050, 2), (44_100, 1)]),
        (".aac", [(44_100, 1), (22_050, 2)]),
        (".flac", [(44_100, 2), (48_000, 2)]),
        (".flac", [(44_100, 1), (44_100, 2)]),
        (".ac3", [(44_100, 1), (48_000, 2)]),
        (".ogg", [(44_100, 1), (22_050, 2), (48_000, 2)]),
        (".opus", [(48_000, 2), (24_000, 1)]),
    ],
)
def test_every_part_is_heard(suffix: str, parts: list[tuple[int, int]], tmp_path: Path) -> None:
    waveforms, summary = decode_whole(joined(tmp_path, suffix, *parts), [MONO, STEREO])
    assert summary.audio_seconds == pytest.approx(4 * len(parts), abs=0.2)
    assert summary.errors < 20
    assert waveforms[STEREO].shape[1] == pytest.approx(4 * len(parts) * 44_100, abs=9_000)
    for seed, (rate, channels) in enumerate(parts):
        piece = soxr.resample(tone(4, rate, channels, seed=seed).mean(axis=0), rate, 24_000)
        assert likeness(waveforms[MONO][0, seed * 96_000 : (seed + 1) * 96_000], piece) > 0.9


@pytest.mark.parametrize("suffix", [".ogg", ".flac", ".mp3"])
def test_a_part_sounds_as_it_does_alone(suffix: str, tmp_path: Path) -> None:
    path = joined(tmp_path, suffix, (44_100, 1), (22_050, 2))
    whole, _ = decode_whole(path, [MONO])
    parts = [decode_whole(tmp_path / f"{seed}{suffix}", [MONO])[0][MONO] for seed in (0, 1)]
    np.testing.assert_array_equal(whole[MONO], np.concatenate(parts, axis=1))


def test_a_stream_of_frames_whose_rate_changes_sounds_as_its_parts(tmp_path: Path) -> None:
    path = joined(tmp_path, ".mp3", (44_100, 1), (22_050, 2), edit=without_xing)
    parts = [decode_whole(tmp_path / f"{seed}.mp3", [MONO])[0][MONO] for seed in (0, 1)]
    np.testing.assert_array_equal(decode_whole(path, [MONO])[0][MONO], np.concatenate(parts, axis=1))


def test_the_hash_covers_all_parts(tmp_path: Path) -> None:
    path = joined(tmp_path, ".ogg", (44_100, 1), (22_050, 2))
    assert decode_whole(path)[1].audio_hash == audio_hash(str(path)) != audio_hash(str(tmp_path / "0.ogg"))
