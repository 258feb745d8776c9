"""An upload with a CUE sheet comes back as its tracks, beside it, with names that lead nowhere else."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutagen.flac import FLAC, CueSheet, CueSheetTrack, CueSheetTrackIndex

from embeddings.audio.pool import DecodePool
from embeddings.library.sync import sync_tracks
from embeddings.uploads import names
from embeddings.uploads.names import is_in_library, safe, unique
from embeddings.uploads.request import Request
from embeddings.uploads.service import Uploads
from tests.batches.conftest import Music
from tests.uploads.client import GoClient
from tests.uploads.sheets import sheet

Arrived = Callable[..., Path]
LINES = (
    'PERFORMER "Artist"', 'TITLE "Album"', 'FILE "rip.wav" WAVE',
    "TRACK 01 AUDIO", 'TITLE "One/Two: ../../x"', "INDEX 01 00:00:00",
    "TRACK 02 AUDIO", 'PERFORMER "Guest"', "INDEX 01 00:02:00",
)  # fmt: skip
TEXTS = ("destName", "title", "artist", "album", "albumArtist")


@pytest.fixture(autouse=True)
def nobody_embeds(settings: Any) -> None:
    settings.UPLOAD_WAIT_SECONDS = 0


def with_sheet(path: Path, *lines: str) -> dict[str, str]:
    cue_file = path.with_name("navidrome-upload-2.cue")
    cue_file.write_bytes(sheet(*lines))
    return {"cue_file": str(cue_file), "name": "rip.flac"}


def test_tracks_come_back(client: GoClient, arrived: Arrived) -> None:
    path = arrived(seconds=4.0)
    answer = client.upload(path, **with_sheet(path, *LINES))
    found = answer["splitFiles"]
    assert [tuple(each[field] for field in TEXTS) for each in found] == [
        ("Artist - Album - 01 - One-Two - ..-..-x.flac", "One/Two: ../../x", "Artist", "Album", "Artist"),
        ("Artist - Album - 02 - Track 02.flac", "Track 02", "Guest", "Album", "Artist"),
    ]
    assert [(each["index"], each["durationSeconds"]) for each in found] == [(1, 2.0), (2, 2.0)]
    assert all(Path(each["path"]).parent == path.parent for each in found)
    assert FLAC(found[1]["path"])["tracktotal"] == ["2"]


def test_tracks_may_have_folders_of_their_own(client: GoClient, arrived: Arrived, settings: Any) -> None:
    settings.SPLIT_FOLDERS = True
    path = arrived(seconds=4.0)
    answer = client.upload(path, **with_sheet(path, *LINES[:2], 'FILE "x" WAVE', *LINES[6:], *LINES[6:8]))
    assert "splitFiles" not in answer  # a single track
    answer = client.upload(path, **with_sheet(path, *LINES))
    assert answer["splitFiles"][1]["destName"] == "Artist - Album/02 - Track 02.flac"


def test_names_that_the_library_has_get_a_number(client: GoClient, arrived: Arrived, music: Music) -> None:
    (music.root / "artist - ALBUM - 02 - Track 02.flac").touch()  # the same file on Windows and macOS
    path = arrived(seconds=4.0)
    answer = client.upload(path, **with_sheet(path, *LINES))
    assert answer["splitFiles"][1]["destName"] == "Artist - Album - 02 - Track 02 (2).flac"


def test_names_that_another_upload_has_get_a_number(
    client: GoClient, arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "COPY_SECONDS", 60.0)
    path = arrived(seconds=4.0)
    fields = with_sheet(path, *LINES, 'TITLE "Taken"')
    for name, expected in (("a.flac", ""), ("b.flac", " (2)"), ("a.flac", "")):
        answer = client.upload(path, **fields | {"name": name})
        assert answer["splitFiles"][1]["destName"] == f"Artist - Album - 02 - Taken{expected}.flac"


def test_names_stay_apart_while_another_upload_of_the_same_name_is_answered(
    client: GoClient, arrived: Arrived, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, answers, split = [arrived(seconds=4.0) for _ in range(2)], [], DecodePool.split

    def meanwhile(pool: DecodePool, *given: Any, **fields: Any) -> list[float]:
        if paths:
            upload()
        return split(pool, *given, **fields)

    def upload() -> None:
        path = paths.pop()
        answers.append(client.upload(path, **with_sheet(path, *LINES, 'TITLE "Both"')))

    monkeypatch.setattr(DecodePool, "split", meanwhile)
    upload()
    found = [answer["splitFiles"][1]["destName"] for answer in answers]
    assert found == ["Artist - Album - 02 - Both (2).flac", "Artist - Album - 02 - Both.flac"]


def test_a_sheet_that_does_not_fit_is_a_warning(client: GoClient, arrived: Arrived, tmp_path: Path) -> None:
    path = arrived(seconds=1.5)
    past = client.upload(path, **with_sheet(path, *LINES))
    assert "before the CUE sheet does; it was taken whole" in past["warning"]
    other = client.upload(path, **(with_sheet(path, *LINES, 'FILE "b" WAVE', LINES[3], LINES[5]) | {"name": "c.flac"}))
    assert "none is called c.flac" in other["warning"]
    gone = client.upload(path, cue_file=str(tmp_path / "gone.cue"))
    assert "the CUE sheet cannot be read" in gone["warning"]
    os.mkfifo(tmp_path / "pipe.cue")
    pipe = client.upload(path, cue_file=str(tmp_path / "pipe.cue"))
    assert "the CUE sheet is not a file" in pipe["warning"]
    assert all(each["status"] == "ok" and "splitFiles" not in each for each in (past, other, gone, pipe))


def test_an_album_that_is_broken_off_at_the_end_is_not_taken_whole(
    arrived: Arrived, monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> None:
    stopping, split = threading.Event(), DecodePool.split

    def stopped(pool: DecodePool, *given: Any, **fields: Any) -> list[float]:
        stopping.set()
        pool.close()
        return split(pool, *given, **fields)

    monkeypatch.setattr(DecodePool, "split", stopped)
    path = arrived(seconds=4.0)
    found = with_sheet(path, *LINES)
    answer = Uploads(stopping.is_set).answer(Request(path, found["name"], Path(found["cue_file"])))
    assert answer == {"status": "error", "message": "navembed is being stopped; send the file again"}
    assert not [*path.parent.glob("*track*")]


def test_tracks_of_an_earlier_time_are_left_alone(client: GoClient, arrived: Arrived) -> None:
    path = arrived(seconds=4.0)
    fields = with_sheet(path, *LINES)
    first, second = (client.upload(path, **fields)["splitFiles"] for _ in range(2))
    assert len({each["path"] for each in first + second if Path(each["path"]).exists()}) == 4


def test_a_sheet_in_the_tags_counts(client: GoClient, arrived: Arrived) -> None:
    path = arrived(seconds=4.0)
    tagged = FLAC(path)
    tagged["cuesheet"] = "\r\n".join(LINES)
    tagged.save()
    assert [each["index"] for each in client.upload(path)["splitFiles"]] == [1, 2]


def test_a_sheet_of_samples_in_a_flac_counts(client: GoClient, arrived: Arrived) -> None:
    path = arrived(seconds=4.0)
    tagged = FLAC(path)
    tagged.cuesheet = CueSheet(None)
    for number, start in ((1, 0), (2, 50_001), (170, 176_400)):
        track = CueSheetTrack(number, start)
        track.indexes = [CueSheetTrackIndex(1, 0)] if number < 170 else []
        tagged.cuesheet.tracks.append(track)
    tagged.metadata_blocks.append(tagged.cuesheet)
    tagged.save()
    found = client.upload(path)["splitFiles"]
    assert [round(each["durationSeconds"] * 44_100) for each in found] == [50_001, 126_399]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("AC/DC: Live?", "AC-DC - Live"), ("..", "x"), ("", "x"), ("con", "_con"), ("LPT1.mp3", "_LPT1.mp3"),
        (".hidden", "hidden"), ("dots...", "dots"), ("a\x00\n\tb\u202e", "a b"), ("e\u0301", "é"),
        ("ü" * 200, "ü" * 60),
        ("\ud800half", "half"), ('<|>"*', "_____"), ("C:\\x", "C --x"),
    ],
)  # fmt: skip
def test_names_are_safe_everywhere(text: str, name: str) -> None:
    assert safe(text, "x") == name


def test_names_are_compared_as_windows_and_macos_do(music: Music, transactional_db: None) -> None:
    (music.root / "Ärtist").mkdir()
    (music.root / "Ärtist" / "e\u0301.flac").touch()
    music.add_row("Folder/Known.flac")
    sync_tracks()
    for name, is_there in (
        ("ärtist/É.FLAC", True), ("Ärtist/x.flac", False), ("x/é.flac", False), ("folder/known.flac", True),
    ):  # fmt: skip
        assert is_in_library(name) == is_there


def test_names_are_unique() -> None:
    taken = {"a/b.flac", "a/b (2).flac"}
    assert unique("a/b.flac", lambda name: name not in taken) == "a/b (3).flac"
