"""A plain folder of music: what counts as a track, stable ids, tags of every kind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library import LibraryTrack
from embeddings.library.folder import FolderLibrary
from navembed_site.demo.encode import write_audio
from tests.batches.rows import make_track

TAGGED = (".mp3", ".flac", ".m4a", ".alac.m4a", ".ogg", ".opus", ".aiff", ".wma", ".wv")


def tracks_of(root: Path) -> list[LibraryTrack]:
    return [track for page in FolderLibrary(root).pages() for track in page]


def paths_of(root: Path) -> list[str]:
    return sorted(str(Path(track.path).relative_to(root)) for track in tracks_of(root))


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"no audio")


@pytest.mark.parametrize("suffix", TAGGED)
def test_tags_and_length_are_read_in_every_tagged_format(tmp_path: Path, suffix: str) -> None:
    tags = {"title": "Вечер 🌙", "artist": "坂本", "album": "Cafe\u0301", "genre": "Folk"}
    silence = np.zeros((2, 88_200), np.float32)
    write_audio(tmp_path / f"x{suffix}", silence, 44_100, tags=tags)
    (track,) = tracks_of(tmp_path)
    assert {name: getattr(track, name) for name in tags} == tags
    assert track.duration == pytest.approx(2, abs=0.15)


def test_a_file_without_tags_is_called_by_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "a/Some Song.mp3")
    (track,) = tracks_of(tmp_path)
    assert (track.title, track.artist, track.album, track.duration) == ("Some Song", "", "", 0)
    assert track.library_id == 1


def test_size_and_time_follow_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "x.mp3")
    os.utime(tmp_path / "x.mp3", ns=(0, 1_700_000_000_123_456_789))
    (track,) = tracks_of(tmp_path)
    assert (track.size, track.mtime) == (8, "1700000000123456789")


def test_only_visible_audio_files_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.MP3", "b/c.flac", "cover.jpg", ".hidden.mp3", ".trash/d.mp3", "mp3", "x.mp3.part")
    assert paths_of(tmp_path) == ["a.MP3", "b/c.flac"]


def test_ids_stay_when_the_folder_is_moved_or_grows(tmp_path: Path) -> None:
    touch(tmp_path / "old", "a/x.mp3")
    (before,) = tracks_of(tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    touch(tmp_path / "new", "b.mp3")
    assert before.id in {track.id for track in tracks_of(tmp_path / "new")}
    assert len(before.id) == 32


def test_pages_are_ordered_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.library.folder.PAGE_SIZE", 4)
    touch(tmp_path, *(f"{number}.mp3" for number in range(10)))
    pages = list(FolderLibrary(tmp_path).pages())
    ids = [track.id for page in pages for track in page]
    assert ids == sorted(set(ids))
    assert [len(page) for page in pages] == [4, 4, 2]


def test_links_in_circles_end_and_each_folder_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "m/a/x.mp3", "m/b/y.mp3")
    (tmp_path / "m/a/up").symlink_to(tmp_path / "m")
    (tmp_path / "m/b/a").symlink_to(tmp_path / "m/a")
    (tmp_path / "m/self").symlink_to(tmp_path / "m/self")
    (tmp_path / "m/gone.mp3").symlink_to(tmp_path / "nowhere.mp3")
    assert paths_of(tmp_path / "m") == ["a/x.mp3", "b/y.mp3"]


def test_linked_folders_outside_are_followed_under_their_first_name(tmp_path: Path) -> None:
    touch(tmp_path, "m/a.mp3", "more/x.mp3")
    for name in ("z", "k", "q"):
        (tmp_path / "m" / name).symlink_to(tmp_path / "more")
    assert paths_of(tmp_path / "m") == ["a.mp3", "k/x.mp3"]


def test_every_beginning_of_a_path_is_held_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/x.mp3", "a/cover.jpg")
    library, path = FolderLibrary(tmp_path), str(tmp_path / "a/b/x.mp3")
    assert all(library.holds(path[:length], 1) for length in range(len(path), -1, -12))
    assert not any(library.holds(prefix) for prefix in (f"{path}x", str(tmp_path / "a/c"), "a/", "/elsewhere"))
    assert not library.holds(path, 2)


def test_a_file_that_goes_while_we_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.library.folder.PAGE_SIZE", 1)
    touch(tmp_path, *(f"{number}.mp3" for number in range(4)))
    pages = FolderLibrary(tmp_path).pages()
    (first,) = next(pages)
    for path in tmp_path.iterdir():
        path.unlink()
    assert (first.library_id, list(pages)) == (1, [])


def test_pipes_and_devices_are_no_tracks(tmp_path: Path) -> None:
    touch(tmp_path, "x.mp3")
    os.mkfifo(tmp_path / "snapfifo.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "linked.wav").symlink_to(tmp_path / "snapfifo.wav")
    assert paths_of(tmp_path) == ["x.mp3"]


def test_damaged_files_are_still_tracks(tmp_path: Path) -> None:
    noise = np.random.default_rng(7)
    starts = {".mp3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f", ".flac": b"fLaC", ".m4a": b"\0\0\0\x20ftypM4A ", ".ogg": b"OggS"}
    for suffix, start in starts.items():
        (tmp_path / f"x{suffix}").write_bytes(start + noise.bytes(3000))
    assert len(tracks_of(tmp_path)) == len(starts)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnavailable, match=r"/absent \(NAVIDROME_MUSIC_ROOT\) cannot be read: No such file"):
        tracks_of(tmp_path / "absent")


def test_the_library_is_named_after_its_folder(tmp_path: Path) -> None:
    library = FolderLibrary(tmp_path / "Музыка")
    assert library.libraries() == {1: "Музыка"}
    assert library.folders() == {1: tmp_path / "Музыка"}


def test_a_folder_that_may_not_be_entered_does_not_hide_the_others(tmp_path: Path) -> None:
    """In a process of its own, which gives up root's right to enter everything."""
    script = """
import os, sys, tempfile
from pathlib import Path
from embeddings.library.walk import audio_files
with tempfile.TemporaryDirectory() as name:
    root = Path(name)
    for folder in ("open", "shut"):
        (root / folder).mkdir()
        (root / folder / "x.mp3").touch()
    root.chmod(0o755), (root / "shut").chmod(0)
    os.geteuid() or os.seteuid(65534)
    left_out = []
    print([Path(path).parent.name for path in audio_files(name, "", lambda folder: None, left_out.append)], left_out)
    os.seteuid(os.getuid()), (root / "shut").chmod(0o700)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("['open']")
    assert "shut is left out: Permission denied" in done.stdout


@pytest.mark.django_db
def test_before_the_first_scan_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp3", "b/c.flac", "cover.jpg")
    assert FolderLibrary(tmp_path).count() == 2


@pytest.mark.django_db
def test_after_a_scan_its_tracks_are_counted(tmp_path: Path) -> None:
    for number in range(3):
        make_track(f"t{number}", playable=number > 0)
    assert FolderLibrary(tmp_path).count() == 2


def test_folder_knows_no_scans(tmp_path: Path) -> None:
    assert FolderLibrary(tmp_path).last_scan() is None
