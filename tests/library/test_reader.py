"""Files and folders that blow up, crash or block what reads them: the library is read nevertheless."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from pathlib import Path

import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library import LibraryTrack, reader
from embeddings.library.folder import FolderLibrary
from navembed_site.names import LONGEST_TEXT
from tests.library.test_folder import touch, tracks_of
from tests.reading import Wrap, wrap

__all__ = ["wrap"]


def mp3_with_title(size: int) -> bytes:
    """Return an MP3's tag whose title is so long and compressed to a thousandth."""
    title = b"\x03" + b"a" * size
    packed = zlib.compress(title)
    frame = b"TIT2" + _synchsafe(len(packed) + 4) + b"\x00\x09" + _synchsafe(len(title)) + packed
    return b"ID3\x04\x00\x00" + _synchsafe(len(frame)) + frame + b"\xff\xfb\x90\x00" + bytes(413)


def track_id(path: Path) -> str:
    return hashlib.sha256(path.name.encode()).hexdigest()[:32]


def _synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


@pytest.mark.parametrize("size", [5_000, 60_000_000])
def test_a_title_that_is_no_title_is_cut_or_left(tmp_path: Path, size: int) -> None:
    (tmp_path / "bomb.mp3").write_bytes(mp3_with_title(size))
    touch(tmp_path, "good.mp3")
    titles = {track.title for track in tracks_of(tmp_path)}
    assert titles in ({"good", "a" * LONGEST_TEXT}, {"good", "bomb"})


def test_tags_get_no_more_memory_than_is_allowed(tmp_path: Path, wrap: Wrap) -> None:
    wrap("bytearray(2**31 if 'big' in path else 1)")
    touch(tmp_path, "big.mp3", "small.mp3")
    assert {track.title for track in tracks_of(tmp_path)} == {"big", "small"}


@pytest.mark.parametrize("how", ["os.abort()", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_file_that_crashes_its_reader_is_a_track_by_its_name(tmp_path: Path, wrap: Wrap, how: str) -> None:
    wrap(f"'bad' in path and {how}")
    touch(tmp_path, "a.mp3", "bad.mp3", "c.mp3")
    assert sorted((track.title, track.size) for track in tracks_of(tmp_path)) == [("a", 8), ("bad", 8), ("c", 8)]


def test_tags_that_take_for_ever_are_given_up(tmp_path: Path, wrap: Wrap) -> None:
    wrap("while 'slow' in path: pass", "reader_process.FILE_SECONDS = 0.1")
    touch(tmp_path, "slow.mp3", "x.mp3")
    assert {track.title for track in tracks_of(tmp_path)} == {"slow", "x"}


def test_a_file_that_hangs_alone_stays_as_it_was(tmp_path: Path, wrap: Wrap, monkeypatch: pytest.MonkeyPatch) -> None:
    wrap("os.kill(os.getpid(), signal.SIGSTOP)")
    touch(tmp_path, "bad.mp3")
    known = {track_id(tmp_path / "bad.mp3"): LibraryTrack("x", 1, "", "Known", "", "", 2.0, 1, "before")}

    def tell(doing: str) -> None:
        if f"waiting for {tmp_path / 'bad.mp3'}" in doing:
            monkeypatch.setattr(reader, "HANG_SECONDS", 0.0)

    (track,) = [track for page in FolderLibrary(tmp_path, lambda ids: known).pages(tell) for track in page]
    assert (track.title, track.mtime) == ("Known", "before")


def test_a_share_that_does_not_answer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "HANG_SECONDS", 0.1)
    monkeypatch.setattr(reader, "COMMAND", ["sleep", "60"])
    monkeypatch.setattr(reader, "MOST_BYTES", 60)
    with pytest.raises(LibraryUnavailable, match=f"the music folder {tmp_path} does not answer"):
        tracks_of(tmp_path)
    assert not reader._unkillable


def test_whoever_is_told_can_stop_it_while_one_file_blocks(tmp_path: Path, wrap: Wrap) -> None:
    wrap("time.sleep(600)")
    touch(tmp_path, "a.mp3")
    told: list[str] = []

    def tell(doing: str) -> None:
        told.append(doing)
        if "waiting for" in doing:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list(FolderLibrary(tmp_path).pages(tell))
    assert f"waiting for {tmp_path / 'a.mp3'} since" in told[-1]


def test_what_has_been_read_is_given_on_while_the_rest_is_slow(tmp_path: Path, wrap: Wrap) -> None:
    wrap("time.sleep(1.2)")
    touch(tmp_path, "a.mp3", "b.mp3", "c.mp3")
    told: list[str] = []
    assert [len(page) for page in FolderLibrary(tmp_path).pages(told.append)] == [2, 1]
    assert "reading the library: 2 of 3 files" in told


def test_a_file_that_is_known_is_not_opened_again(tmp_path: Path, wrap: Wrap) -> None:
    wrap("'old' in path and os.abort()")
    touch(tmp_path, "old.mp3", "new.mp3")
    old = tmp_path / "old.mp3"
    seen = LibraryTrack(track_id(old), 1, str(old), "Known", "", "", 2.0, 8, str(old.stat().st_mtime_ns))
    pages = FolderLibrary(tmp_path, lambda ids: {seen.id: seen}).pages()
    assert {track.title for page in pages for track in page} == {"Known", "new"}


def test_storage_that_fails_while_tags_are_read_takes_no_title_away(tmp_path: Path) -> None:
    path = tmp_path / "x.mp3"
    path.symlink_to("/proc/self/mem")  # reading it is an input/output error
    known = {track_id(path): LibraryTrack("x", 1, "", "Known", "", "", 2.0, 1, "before")}
    (track,) = [track for page in FolderLibrary(tmp_path, lambda ids: known).pages() for track in page]
    assert (track.title, track.size) == ("Known", 0)


def test_no_reader_is_left_behind(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.mp3" for number in range(3)))
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    pages = FolderLibrary(tmp_path).pages()
    next(pages)
    pages.close()  # type: ignore[attr-defined]
    assert children.read_text() == before


def test_nobody_follows_one_that_hangs_in_the_kernel_but_other_folders_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as hanging:
        monkeypatch.setattr(reader, "_unkillable", [(tmp_path, hanging)])
        assert reader.look_at(tmp_path.parent, [], 20).is_there
        with pytest.raises(LibraryUnavailable, match="does not answer"):
            tracks_of(tmp_path)
        hanging.kill()
        hanging.wait()
        assert tracks_of(tmp_path) == []
