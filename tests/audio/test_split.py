"""Parts of a file as FLACs: in a row they are its samples, bit by bit."""

from __future__ import annotations

import re
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from numpy.typing import NDArray

from embeddings.audio.decode import natives
from embeddings.audio.pool import DecodePool
from embeddings.audio.split import Cut, split
from embeddings.errors import AudioError
from navembed_site.demo.encode import write_audio
from tests.audio_files import DAMAGED, tone

MARKS = ("0", "1", "100", "401/3", "200")  # in frames of 1/75 s


def cuts(folder: Path, marks: tuple[str, ...] = MARKS) -> list[Cut]:
    ends = [*pairwise(marks), (marks[-1], None)]
    return [
        Cut(str(folder / f"part-{n}.flac"), start, end, {"title": f"Part {n}"}) for n, (start, end) in enumerate(ends)
    ]


def decoded(path: Path) -> NDArray[np.float32]:
    return np.concatenate([piece.waveform for piece in natives(str(path))], axis=1)


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".alac.m4a", ".wv", ".tta", ".aiff"])
@pytest.mark.parametrize("rate", [44_100, 48_000, 22_050])
def test_parts_in_a_row_are_the_file(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"album{suffix}"
    write_audio(path, tone(5, rate), rate)
    wanted = cuts(tmp_path)
    lengths = split(str(path), wanted)
    assert np.array_equal(np.concatenate([decoded(Path(cut.path)) for cut in wanted], axis=1), decoded(path))
    assert sum(lengths) == pytest.approx(5, abs=1e-9)
    assert round(lengths[0] * rate) == round(rate / 75)


@pytest.mark.parametrize(("subtype", "channels"), [("PCM_24", 2), ("PCM_24", 6), ("PCM_U8", 1)])
def test_more_bits_and_channels_are_kept(tmp_path: Path, subtype: str, channels: int) -> None:
    path = tmp_path / "album.wav"
    soundfile.write(path, tone(3, 96_000, channels).T, 96_000, subtype=subtype)
    wanted = cuts(tmp_path, ("0", "77"))
    split(str(path), wanted)
    assert np.array_equal(np.concatenate([decoded(Path(cut.path)) for cut in wanted], axis=1), decoded(path))


def test_lossy_files_are_cut_as_they_are_heard(tmp_path: Path) -> None:
    path = tmp_path / "album.mp3"
    write_audio(path, tone(5), 44_100)
    wanted = cuts(tmp_path)
    split(str(path), wanted)
    joined = np.concatenate([decoded(Path(cut.path)) for cut in wanted], axis=1)
    assert np.abs(joined - np.clip(decoded(path), -1, 1)).max() <= 2.0**-15


def test_what_loud_samples_overshoot_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "album.wav"
    soundfile.write(path, np.full((66_150, 1), 1.5, np.float32) * np.sin(np.arange(66_150))[:, None], 44_100, "FLOAT")
    split(str(path), cuts(tmp_path, ("0", "50")))
    assert 0.999 < decoded(tmp_path / "part-0.flac").max() <= 1.0


def test_tags_and_cover_are_written(tmp_path: Path) -> None:
    path = tmp_path / "album.flac"
    write_audio(path, tone(3), 44_100)
    source = FLAC(path)
    picture = mutagen.flac.Picture()
    picture.data, picture.mime, picture.type = b"an image", "image/png", 3
    source.add_picture(picture)
    source.save()
    split(str(path), cuts(tmp_path, ("0", "100")))
    written = FLAC(tmp_path / "part-1.flac")
    assert written["title"] == ["Part 1"]
    assert [each.data for each in written.pictures] == [b"an image"]


@pytest.mark.parametrize("damage", ["corrupt middle flac", "lost tenth flac", "truncated flac"])
def test_a_lossless_file_that_has_lost_something_is_not_split(tmp_path: Path, damage: str) -> None:
    """What follows the loss would be cut too late."""
    path = DAMAGED[damage].make(tmp_path)
    with pytest.raises(AudioError, match="of 12 s are missing"):
        split(str(path), cuts(tmp_path, ("0", "75")))
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("suffix", [".flac", ".wv", ".tta"])
def test_a_lossless_file_whose_checksum_does_not_hold_is_not_split(tmp_path: Path, suffix: str) -> None:
    """A decoder makes noise of it, and says nothing; so does FFmpeg's of whole APEs that it does not understand."""
    path = tmp_path / f"album{suffix}"
    write_audio(path, tone(5), 44_100)
    data = bytearray(path.read_bytes())
    data[len(data) * 7 // 10] ^= 4
    path.write_bytes(data)
    with pytest.raises(AudioError, match="are missing"):
        split(str(path), cuts(tmp_path, ("0", "75")))


def test_a_tag_at_the_end_is_no_loss(tmp_path: Path) -> None:
    path = tmp_path / "album.flac"
    write_audio(path, tone(3), 44_100)
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    assert split(str(path), cuts(tmp_path, ("0", "75"))) == [1, 2]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """What a minute at 192 kHz would take, were it kept: 92 MB."""
    peaks = []
    with closing(DecodePool(1)) as pool:
        for seconds in (6, 60):
            path = tmp_path / f"{seconds}.flac"
            with soundfile.SoundFile(path, "x", 192_000, 2, "PCM_24") as file:
                for _ in range(seconds):
                    file.write(np.zeros((192_000, 2), np.int32))
            (tmp_path / str(seconds)).mkdir()
            pool.split(str(path), cuts(tmp_path / str(seconds), ("0", "75")))
            status = Path(f"/proc/{pool.pids[0]}/status").read_text()
            peaks.append(int(re.findall(r"VmHWM:\s+(\d+)", status)[0]))
    assert peaks[1] - peaks[0] < 16_000


def test_a_sheet_that_runs_past_the_end_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "album.flac"
    write_audio(path, tone(3), 44_100)
    for marks in (("0", "100", "225"), ("0", "300")):
        with pytest.raises(AudioError, match=r"it ends after 3\.00 s"):
            split(str(path), cuts(tmp_path, marks))
        assert [each.name for each in tmp_path.iterdir()] == ["album.flac"]
