"""The hash of the audio stays when tags are edited, and changes with the audio."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
import soundfile
from mutagen.apev2 import APEv2
from mutagen.id3 import APIC, ID3, TIT2

from embeddings.audio.decode import audio_hash, decode
from navembed_site.demo.encode import FORMATS, write_audio
from tests.audio.conftest import MONO, decode_whole
from tests.audio_files import tone, write_dsf

WITHOUT_TAGS = {".aac", ".ac3", ".mka", ".caf"}  # mutagen cannot edit them
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(200_000)


def edit(path: Path) -> None:
    """Give the file a long title and, where the tags are ID3, a picture: everything in it moves."""
    file: Any = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, ID3):
        file.tags.add(TIT2(encoding=3, text="Zwölf " * 100))
        file.tags.add(APIC(encoding=3, mime="image/png", type=3, desc="cover", data=PICTURE))
    else:
        file.tags["\xa9nam" if path.suffix == ".m4a" else "title"] = ["Zwölf " * 20_000]
    file.save()


@pytest.mark.parametrize("suffix", [suffix for suffix in FORMATS if suffix not in WITHOUT_TAGS])
def test_editing_tags_keeps_the_hash(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"piece{suffix}"
    write_audio(path, tone(3), 44_100, tags={"title": "Elf"})
    before, size = audio_hash(str(path)), path.stat().st_size
    edit(path)
    assert path.stat().st_size != size
    assert audio_hash(str(path)) == before


def test_editing_tags_of_dsd_keeps_the_hash(tmp_path: Path) -> None:
    write_dsf(tmp_path / "piece.dsf", tone(1), 44_100)
    before = audio_hash(str(tmp_path / "piece.dsf"))
    edit(tmp_path / "piece.dsf")
    assert audio_hash(str(tmp_path / "piece.dsf")) == before


@pytest.mark.parametrize("suffix", [".mp3", ".mp2", ".aac", ".tta"])
@pytest.mark.parametrize("version_1", [0, 2])
def test_id3_at_both_ends_keeps_the_hash(suffix: str, version_1: int, tmp_path: Path) -> None:
    path = tmp_path / f"piece{suffix}"
    write_audio(path, tone(3), 44_100)
    before = audio_hash(str(path))
    tags = ID3()
    tags.add(TIT2(encoding=3, text="Zwölf"))
    tags.save(path, v1=version_1)
    assert audio_hash(str(path)) == before


@pytest.mark.parametrize("suffix", [".mp3", ".wv", ".tta", ".m4a"])
def test_ape_tags_keep_the_hash(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"piece{suffix}"
    write_audio(path, tone(3), 44_100)
    before = audio_hash(str(path))
    tags = APEv2()
    tags["title"] = "Zwölf " * 500
    tags.save(path)
    assert audio_hash(str(path)) == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_decoding_gives_the_same_hash(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"piece{suffix}"
    write_audio(path, tone(3), 44_100)
    assert decode_whole(path)[1].audio_hash == audio_hash(str(path))


def test_it_is_the_sha256_of_codec_rate_channels_and_packets(tmp_path: Path) -> None:
    path = tmp_path / "piece.wav"
    samples = np.arange(-30_000, 30_000, dtype=np.int16)
    soundfile.write(path, samples, 44_100, subtype="PCM_16")
    assert audio_hash(str(path)) == hashlib.sha256(b"pcm_s16le 44100 1\n" + samples.tobytes()).hexdigest()


def test_other_audio_has_another_hash(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_audio(tmp_path / f"{seed}.mp3", tone(3, seed=seed), 44_100)
    assert audio_hash(str(tmp_path / "1.mp3")) != audio_hash(str(tmp_path / "2.mp3"))


def test_the_same_samples_at_another_rate_have_another_hash(tmp_path: Path) -> None:
    for rate in (44_100, 48_000):
        write_audio(tmp_path / f"{rate}.wav", tone(3), rate)
    assert audio_hash(str(tmp_path / "44100.wav")) != audio_hash(str(tmp_path / "48000.wav"))


def test_a_damaged_file_has_the_same_hash_both_ways(tmp_path: Path) -> None:
    path = tmp_path / "piece.mp3"
    write_audio(path, tone(6), 44_100)
    data = path.read_bytes()
    path.write_bytes(data[:50_000] + bytes(5_000) + data[55_000:])
    *_, summary = decode(str(path), [MONO])
    assert getattr(summary, "audio_hash") == audio_hash(str(path))  # noqa: B009
