"""Files of real libraries: what can be heard of them is used, the rest is refused with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embeddings.audio.decode import audio_hash, decode
from embeddings.audio.summary import AudioSummary, Limits
from embeddings.errors import AudioError, AudioFileMissing
from navembed_site.demo.encode import write_audio
from tests.audio.conftest import MONO, STEREO, decode_whole
from tests.audio_files import DAMAGED, tone, write_long


@pytest.mark.parametrize("name", [name for name, damage in DAMAGED.items() if damage.refused])
def test_a_hopeless_file_is_refused_for_good_with_its_reason(name: str, tmp_path: Path) -> None:
    path = DAMAGED[name].make(tmp_path)
    with pytest.raises(AudioError, match=DAMAGED[name].refused) as refusal:
        list(decode(str(path), [MONO, STEREO]))
    assert refusal.value.permanent


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("corrupt middle mp3", 11.7),
        ("corrupt middle flac", 11.7),
        ("corrupt middle aac", 11.7),
        ("corrupt middle vorbis", 10),
        ("lost tenth flac", 10.8),
        ("without end wav", 12),
        ("ten hours mp3", 12),
        ("ten hours flac", 12),
        ("latin-1 tags", 12),
        ("latin-1 tags mp4", 12),
        ("not a number", 3),
    ],
)
def test_what_is_left_of_a_damaged_file_is_decoded(name: str, seconds: float, tmp_path: Path) -> None:
    _, summary = decode_whole(DAMAGED[name].make(tmp_path))
    assert summary.audio_seconds == pytest.approx(seconds, abs=0.2)


def test_every_damaged_file_is_tested() -> None:
    assert sum(bool(damage.refused) for damage in DAMAGED.values()) + 11 == len(DAMAGED)


def test_a_loss_within_a_flac_shows_in_the_ratio(tmp_path: Path) -> None:
    _, summary = decode_whole(DAMAGED["lost tenth flac"].make(tmp_path))
    assert summary.errors == 0
    assert summary.ratio == pytest.approx(0.9, abs=0.02)


def test_damaged_packets_are_counted(tmp_path: Path) -> None:
    _, summary = decode_whole(DAMAGED["corrupt middle aac"].make(tmp_path))
    assert summary.errors > 0


def test_how_much_must_be_there_can_be_chosen(tmp_path: Path) -> None:
    path = DAMAGED["truncated flac"].make(tmp_path)
    *_, summary = decode(str(path), [MONO], limits=Limits(min_decoded=0.4))
    assert isinstance(summary, AudioSummary)
    assert summary.audio_seconds == pytest.approx(6, abs=0.2)
    assert summary.note.endswith("of 12 s could not be decoded")


def test_more_hours_than_are_allowed_are_refused_for_good(tmp_path: Path) -> None:
    write_audio(tmp_path / "long.flac", tone(4), 44_100)
    head, rest = (data := (tmp_path / "long.flac").read_bytes())[:21], data[26:]
    (tmp_path / "long.flac").write_bytes(head + bytes([data[21] & 0xF0, 0, 0, 0, 0]) + rest)  # declares no length
    with pytest.raises(AudioError, match=r"longer than 0.001 h \(NAVEMBED_MAX_HOURS\)") as refusal:
        list(decode(str(tmp_path / "long.flac"), [MONO], limits=Limits(max_hours=0.001)))
    assert refusal.value.permanent


def test_what_declares_too_many_hours_and_has_them_is_refused_before_it_is_heard(tmp_path: Path) -> None:
    write_long(tmp_path / "long.flac", 0.1, 1_000)
    heard = decode(str(tmp_path / "long.flac"), [MONO], block_seconds=10, limits=Limits(max_hours=0.05))
    with pytest.raises(AudioError, match=r"longer than 0.05 h"):
        next(heard)


def test_a_missing_file_may_come_back(tmp_path: Path) -> None:
    with pytest.raises(AudioFileMissing, match="no such file") as failure:
        list(decode(str(tmp_path / "gone.mp3"), [MONO]))
    assert not failure.value.permanent


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "album.mp3")
    with pytest.raises(AudioError, match=r"is a folder|is not a regular file") as refusal:
        list(decode(str(tmp_path / "album.mp3"), [MONO]))
    assert refusal.value.permanent


@pytest.fixture
def nobody() -> Iterator[None]:
    """Without root's rights, which would read every file."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    yield
    os.seteuid(user)


def test_missing_rights_are_passing(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    write_audio(tmp_path / "mine.wav", tone(2), 44_100)
    (tmp_path / "mine.wav").chmod(0)
    request.getfixturevalue("nobody")
    with pytest.raises(AudioError, match="cannot be read now: Permission denied") as failure:
        list(decode(str(tmp_path / "mine.wav"), [MONO]))
    assert not failure.value.permanent


def test_errors_of_the_storage_are_passing() -> None:
    with pytest.raises(AudioError, match="cannot be read now: Input/output error") as failure:
        list(decode("/proc/self/mem", [MONO]))
    assert not failure.value.permanent


def test_names_are_never_taken_for_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("concat:one|two.wav", "sp%02d ace\n.wav", os.fsdecode(b"latin\xe9.wav")):
        write_audio(tmp_path / "plain.wav", tone(2), 44_100)
        (tmp_path / "plain.wav").rename(name)
        assert audio_hash(name)


def test_progress_is_reported_for_every_packet(tmp_path: Path) -> None:
    write_audio(tmp_path / "piece.mp3", tone(5), 44_100)
    calls: list[None] = []
    list(decode(str(tmp_path / "piece.mp3"), [MONO], progress=lambda: calls.append(None)))
    assert len(calls) >= 5 * 44_100 // 1_152


def test_a_decoded_block_belongs_to_the_caller(tmp_path: Path) -> None:
    write_audio(tmp_path / "piece.flac", tone(6), 44_100)
    parts = decode(str(tmp_path / "piece.flac"), [MONO], block_seconds=2)
    first, second, *_ = [part[MONO] for part in parts if isinstance(part, dict)]
    before = first.copy()
    second[:] = 0
    np.testing.assert_array_equal(first, before)
