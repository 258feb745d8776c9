"""The demo's library: what it promises to contain, made with pieces of two seconds."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.library import LibraryTrack
from embeddings.library.folder import FolderLibrary
from embeddings.library.navidrome import NavidromeLibrary
from navembed_site.demo import library
from navembed_site.demo.library import DemoLibrary, make_demo_library
from tests.navidrome_db import make_navidrome


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoLibrary:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "SECONDS", (2,))
        patch.setattr(library, "LONG", {title: (3, suffix) for title, (_, suffix) in library.LONG.items()})
        return make_demo_library(tmp_path_factory.mktemp("demo"))


def tracks_of(demo: DemoLibrary) -> dict[str, LibraryTrack]:
    return {track.id: track for page in NavidromeLibrary(demo.database).pages() for track in page}


def query(demo: DemoLibrary, sql: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(f"{demo.database.as_uri()}?immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchall()


def decoded(path: str) -> NDArray[np.float32]:
    with av.open(path) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    joined = np.concatenate([frame if frame.shape[0] == 2 else frame.reshape(-1, 2).T for frame in frames], axis=1)
    return joined / np.float32(1 if joined.dtype.kind == "f" else np.iinfo(joined.dtype).max)


def test_it_is_a_library_of_many_tracks_formats_and_lengths() -> None:
    rows = [piece.row for piece in library._pieces()]
    assert len(rows) >= 30
    assert len({"".join(Path(row.path).suffixes[-1:]) for row in rows}) >= 8
    assert all(20 <= row.duration <= 150 for row in rows)
    assert sum(row.duration > 40 for row in rows) == 4
    assert sum(row.duration for row in rows) < 20 * 60
    assert len({row.id for row in rows}) == len(rows)


def test_every_playable_track_has_its_file(demo: DemoLibrary) -> None:
    tracks = tracks_of(demo)
    assert len(tracks) == demo.tracks
    assert {track.id: Path(track.path).stat().st_size for track in tracks.values()} == {
        track.id: track.size for track in tracks.values()
    }


def test_every_track_but_the_damaged_one_plays_for_its_length(demo: DemoLibrary) -> None:
    for track in tracks_of(demo).values():
        if track.id != demo.damaged:
            assert decoded(track.path).shape[1] / 48_000 == pytest.approx(track.duration, rel=0.15), track.path


def test_the_damaged_track_is_listed_but_is_no_audio(demo: DemoLibrary) -> None:
    with pytest.raises(av.FFmpegError), av.open(tracks_of(demo)[demo.damaged].path) as container:
        list(container.decode(audio=0))


def test_the_missing_track_has_a_row_and_no_file(demo: DemoLibrary) -> None:
    ((path, missing),) = query(demo, f"SELECT path, missing FROM media_file WHERE id = '{demo.missing}'")
    assert (missing, (demo.music_root / path).exists()) == (1, False)


def test_the_twins_are_one_piece_in_two_encodings(demo: DemoLibrary) -> None:
    flac, mp3 = (tracks_of(demo)[one] for one in demo.twins)
    assert (Path(flac.path).suffix, Path(mp3.path).suffix, flac.title) == (".flac", ".mp3", mp3.title)
    first, second = decoded(flac.path)[0], decoded(mp3.path)[0]
    spectra = [np.abs(np.fft.rfft(samples[:80_000])) for samples in (first, second)]
    assert np.corrcoef(*spectra)[0, 1] > 0.99


def test_two_libraries_and_who_may_see_them(demo: DemoLibrary) -> None:
    assert set(NavidromeLibrary(demo.database).libraries()) == {1, 2}
    assert {track.library_id for track in tracks_of(demo).values()} == {1, 2}
    sql = "SELECT user_name, group_concat(library_id) FROM user JOIN user_library ON user.id = user_id GROUP BY 1"
    assert query(demo, sql) == [("admin", "1,2"), ("guest", "1")]


def test_all_artists_of_a_track_are_named(demo: DemoLibrary) -> None:
    sql = "SELECT id, artist, participants FROM media_file WHERE artist LIKE '% • %'"
    ((track_id, artist, participants),) = query(demo, sql)
    named = [one["name"] for one in json.loads(participants)["artist"]]
    assert " • ".join(named) == artist
    joined = f"SELECT artist_id FROM media_file_artists WHERE role = 'artist' AND media_file_id = '{track_id}'"
    assert {one["id"] for one in json.loads(participants)["artist"]} == {one for (one,) in query(demo, joined)}


def test_the_files_carry_their_tags(demo: DemoLibrary) -> None:
    by_path = {track.path: track for track in tracks_of(demo).values()}
    for page in FolderLibrary(demo.music_root).pages():
        for found in page:
            track = by_path[found.path]
            if Path(found.path).suffix != ".wav" and track.id != demo.damaged:
                assert (found.title, found.artist, found.album) == (track.title, track.artist, track.album)


def test_it_can_be_moved(demo: DemoLibrary, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(demo.database.parent, moved)
    pages = NavidromeLibrary(moved / "navidrome.db").pages()
    paths = [Path(track.path) for page in pages for track in page]
    assert all(path.is_relative_to(moved) and path.exists() for path in paths)


def test_it_is_made_once(demo: DemoLibrary) -> None:
    before = {path: path.stat().st_mtime_ns for path in demo.database.parent.rglob("*")}
    assert make_demo_library(demo.database.parent) == demo
    assert {path: path.stat().st_mtime_ns for path in demo.database.parent.rglob("*")} == before


def test_another_version_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "ALBUMS", [one for one in library.ALBUMS if library.TWIN in one.tracks])
    monkeypatch.setattr(library, "SECONDS", (1,))
    make_demo_library(tmp_path)
    monkeypatch.setattr(library, "VERSION", library.VERSION + 1)
    monkeypatch.setattr(library, "TWIN", "Low Water")
    remade = make_demo_library(tmp_path)
    assert {tracks_of(remade)[one].title for one in remade.twins} == {"Low Water"}


def test_a_real_navidrome_is_never_overwritten(tmp_path: Path) -> None:
    database = make_navidrome(tmp_path / "navidrome.db", [{"id": "a", "path": "a.mp3"}])
    content = database.read_bytes()
    with pytest.raises(FileExistsError, match="choose another folder"):
        make_demo_library(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["navidrome.db"]
    assert database.read_bytes() == content
