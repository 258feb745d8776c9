"""Names that are no UTF-8 or no text at all: kept as they are, and never taken for another file's."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from embeddings.library import LibraryTrack
from embeddings.library.folder import FolderLibrary
from embeddings.library.navidrome import NavidromeLibrary
from embeddings.library.places import Places
from navembed_site.names import can_be_id, original, storable, storable_id
from tests.navidrome_db import make_navidrome

NAMES = [
    b"plain.wav",
    b"latin1 caf\xe9.wav",
    b"big5 \xa4\xa4\xa4\xe5.wav",
    b"folder\xff/inside.wav",
    b"B\xf6se.wav",
    b"B?se.wav",
    "B\ufffdse.wav".encode(),
    storable(b"B\xf6se.wav").encode(),
    "\U0010ffff\U0010fe00\U0010fdff.wav".encode(),
    b"\xed\xb3\xb6.wav",  # a lone surrogate
]


def opened(track: LibraryTrack) -> bytes:
    return Path(Places({}, {}).file(track.path)).read_bytes()


def write(root: Path, names: list[bytes]) -> None:
    """Files that hold their names."""
    for name in names:
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_and_is_text(name: bytes) -> None:
    assert original(storable(name)) == name
    assert storable(name).encode().decode() == storable(name)


def test_no_two_names_are_stored_alike() -> None:
    assert len({storable(name) for name in NAMES}) == len(NAMES)


def test_a_name_that_is_text_is_stored_as_it_is() -> None:
    assert storable("坂本/Cafe\u0301 🎹.mp3".encode()) == "坂本/Cafe\u0301 🎹.mp3"


def test_every_file_of_a_folder_is_found_by_what_is_stored(tmp_path: Path) -> None:
    write(tmp_path, NAMES)
    tracks = [track for page in FolderLibrary(tmp_path).pages() for track in page]
    assert sorted(map(opened, tracks)) == sorted(NAMES)


def test_every_file_of_navidrome_is_found_by_what_is_stored(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xfcsic"))
    root.mkdir()
    write(root, NAMES)
    rows = [{"id": f"{number}", "path": "x"} for number in range(len(NAMES))]
    database = make_navidrome(tmp_path / "navidrome.db", rows)
    with closing(sqlite3.connect(database)) as connection:
        for number, name in enumerate(NAMES):
            connection.execute("UPDATE media_file SET path = CAST(? AS TEXT) WHERE id = ?", (name, f"{number}"))
        connection.execute("UPDATE library SET path = CAST(? AS TEXT)", (os.fsencode(root),))
        connection.commit()
    tracks = [track for page in NavidromeLibrary(database).pages() for track in page]
    assert list(map(opened, tracks)) == NAMES


def test_ids_that_are_no_text_are_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.library.navidrome.PAGE_SIZE", 1)
    ids = [b"a", b"a\0b", b"\xe9", b"\xff", b"\xff\xff"]
    database = make_navidrome(tmp_path / "navidrome.db", [{"id": f"{n}", "path": "x"} for n in range(len(ids))])
    with closing(sqlite3.connect(database)) as connection:
        for number, name in enumerate(ids):
            connection.execute("UPDATE media_file SET id = CAST(? AS TEXT) WHERE id = ?", (name, f"{number}"))
        connection.commit()
    tracks = [track for page in NavidromeLibrary(database).pages() for track in page]
    assert [original(track.id) for track in tracks] == ids
    assert [can_be_id(track.id) for track in tracks] == [True, False, False, False, False]


def test_an_id_that_is_too_long_is_shortened_and_cannot_be_used() -> None:
    ids = {storable_id(b"x" * 300 + end) for end in (b"a", b"b")}
    assert len(ids) == 2
    assert all(len(one) <= 255 and not can_be_id(one) for one in ids)


def test_values_that_are_of_another_type_stop_nothing(tmp_path: Path) -> None:
    row = {"id": "a", "path": "x.mp3", "title": b"bytes", "artist": 7, "size": "big", "updated_at": "x" * 99}
    (track,) = [track for page in NavidromeLibrary(make_navidrome(tmp_path / "n.db", [row])).pages() for track in page]
    assert (track.title, track.artist, track.size, track.mtime) == ("bytes", "7", 0, "x" * 64)
