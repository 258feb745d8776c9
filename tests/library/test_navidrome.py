"""Reading Navidrome's tables: every schema version, paths, what is left out, and clear errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library import LibraryTrack
from embeddings.library.navidrome import GENRE, PAGE, PRESENT, NavidromeLibrary
from tests.navidrome_db import VERSIONS, add_tracks, make_navidrome

GENUINE = Path(__file__).resolve().parents[3] / "shared" / "navidrome"


def tracks_of(library: NavidromeLibrary) -> list[LibraryTrack]:
    return [track for page in library.pages() for track in page]


def paths_of(database: Path, **options: Any) -> dict[str, str]:
    return {track.id: track.path for track in tracks_of(NavidromeLibrary(database, **options))}


def navidrome_with(folder: Path, *tracks: Mapping[str, Any], **options: Any) -> Path:
    return make_navidrome(folder / "navidrome.db", tracks, **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_tracks_are_counted_without_being_read(tmp_path: Path, version: str) -> None:
    rows = [
        {"id": name, "path": f"/music/{name}"} | ({} if version == "0.54" else {"missing": name == "c"})
        for name in "abc"
    ]
    library = NavidromeLibrary(navidrome_with(tmp_path, *rows, version=version))
    assert library.count() == (3 if version == "0.54" else 2)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_schema_version_yields_its_tracks(tmp_path: Path, version: str) -> None:
    path = "/music/artist/a.mp3" if version == "0.54" else "artist/a.mp3"
    database = navidrome_with(tmp_path, {"id": "a", "path": path}, version=version)
    expected = LibraryTrack(
        id="a",
        library_id=1,
        path="/music/artist/a.mp3",
        title="Title",
        artist="Artist",
        album="Album",
        duration=60.5,
        size=1000,
        mtime="2024-05-06 07:08:09.123456789+02:00",
        genre="Folk",
    )
    assert tracks_of(NavidromeLibrary(database)) == [expected]


def test_a_snapshot_that_knows_no_genres_can_be_read(tmp_path: Path) -> None:
    database = navidrome_with(tmp_path, {"id": "a", "path": "a.mp3"})
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ALTER TABLE media_file DROP COLUMN genre")
    assert [track.genre for track in tracks_of(NavidromeLibrary(database))] == [""]


def test_databases_made_by_navidrome_itself_can_be_read(tmp_path: Path) -> None:
    for genuine in sorted(GENUINE.glob("*.db")):
        database = tmp_path / genuine.name
        database.write_bytes(genuine.read_bytes())
        with closing(sqlite3.connect(database)) as connection:
            add_tracks(connection, [{"id": "a", "path": "/music/a.mp3"}])
        assert paths_of(database) == {"a": "/music/a.mp3"}, genuine.name


def test_rows_marked_missing_are_left_out(tmp_path: Path) -> None:
    rows = [{"id": "here", "path": "a.mp3"}, {"id": "gone", "path": "b.mp3", "missing": 1}]
    assert list(paths_of(navidrome_with(tmp_path, *rows))) == ["here"]


def test_pages_are_ordered_by_id_across_page_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.library.navidrome.PAGE_SIZE", 3)
    ids = [f"{number * 37 % 11:02}" for number in range(11)] + ["é", "音", "🎵"]
    database = navidrome_with(tmp_path, *({"id": one, "path": f"{one}.mp3"} for one in ids))
    pages = list(NavidromeLibrary(database).pages())
    assert [track.id for page in pages for track in page] == sorted(ids)
    assert [len(page) for page in pages] == [3, 3, 3, 3, 2]


def test_a_page_of_missing_rows_does_not_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embeddings.library.navidrome.PAGE_SIZE", 2)
    rows = [{"id": f"{n}", "path": "../out.mp3" if n < 6 else "in.mp3"} for n in range(8)]
    assert list(paths_of(navidrome_with(tmp_path, *rows))) == ["6", "7"]


def test_pages_are_found_without_sorting_the_table(tmp_path: Path) -> None:
    database = navidrome_with(tmp_path, *({"id": f"{n}", "path": f"{n}"} for n in range(50)))
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("ANALYZE")
        plan = connection.execute(
            f"EXPLAIN QUERY PLAN {PAGE.format(present=PRESENT, genre=GENRE)}", ("5", 10)
        ).fetchall()
    assert "TEMP B-TREE" not in str(plan)
    assert "(id>?)" in str(plan)


def test_each_library_has_its_own_folder_and_name(tmp_path: Path) -> None:
    rows = [{"id": "a", "path": "same.mp3"}, {"id": "b", "path": "same.mp3", "library_id": 2}]
    library = NavidromeLibrary(navidrome_with(tmp_path, *rows, libraries={1: "/music", 2: "/more"}))
    assert [track.path for track in tracks_of(library)] == ["/music/same.mp3", "/more/same.mp3"]
    assert library.folders() == {1: Path("/music"), 2: Path("/more")}
    assert library.libraries() == {1: "Library 1", 2: "Library 2"}


def test_music_root_replaces_the_folder_of_library_1_only(tmp_path: Path) -> None:
    rows = [{"id": "a", "path": "x.mp3"}, {"id": "b", "path": "x.mp3", "library_id": 2}]
    database = navidrome_with(tmp_path, *rows, libraries={1: "/music", 2: "/more"})
    assert paths_of(database, music_root=Path("/nas")) == {"a": "/nas/x.mp3", "b": "/more/x.mp3"}


def test_the_path_map_replaces_folders_by_library_id_and_wins(tmp_path: Path) -> None:
    rows = [{"id": "a", "path": "x.mp3"}, {"id": "b", "path": "x.mp3", "library_id": 2}]
    database = navidrome_with(tmp_path, *rows, libraries={1: "/music", 2: "/more"})
    options = {"music_root": Path("/nas"), "path_map": {1: Path("/one"), 2: Path("/two")}}
    assert paths_of(database, **options) == {"a": "/one/x.mp3", "b": "/two/x.mp3"}


def test_a_relative_library_folder_lies_beside_the_database(tmp_path: Path) -> None:
    database = navidrome_with(tmp_path, {"id": "a", "path": "x.mp3"}, libraries={1: "./music"})
    assert paths_of(database) == {"a": str(tmp_path / "music" / "x.mp3")}


@pytest.mark.parametrize(("stated", "expected"), [("/", "/a/x.mp3"), ("/music/", "/music/a/x.mp3")])
def test_slashes_at_the_end_of_a_library_folder_do_not_matter(tmp_path: Path, stated: str, expected: str) -> None:
    database = navidrome_with(tmp_path, {"id": "a", "path": "a/x.mp3"}, libraries={1: stated})
    assert paths_of(database) == {"a": expected}


def test_absolute_paths_of_old_versions_follow_the_path_map(tmp_path: Path) -> None:
    database = navidrome_with(tmp_path, {"id": "a", "path": "/music/b/x.mp3"}, version="0.54")
    assert paths_of(database, music_root=Path("/nas")) == {"a": "/nas/b/x.mp3"}


def test_old_paths_of_a_relative_music_folder_are_understood(tmp_path: Path) -> None:
    row = {"id": "a", "path": "music/b/x.mp3"}
    database = navidrome_with(tmp_path, row, version="0.54", libraries={1: "./music"})
    assert paths_of(database, path_map={1: Path("/nas")}) == {"a": "/nas/b/x.mp3"}


PLACES: list[tuple[str, str, dict[str, Any]]] = [
    ("a/b.mp3", "0.58", {}),
    ("/music/a/b.mp3", "0.54", {"music_root": Path("/nas")}),
    ("music/a/b.mp3", "0.54", {"libraries": {1: "./music"}}),
    ("a/b.mp3", "0.63", {"path_map": {1: Path("/")}}),
]


@pytest.mark.parametrize(("path", "version", "options"), PLACES)
def test_every_beginning_of_a_path_is_held_and_nothing_else(
    tmp_path: Path, path: str, version: str, options: dict[str, Any]
) -> None:
    libraries = options.pop("libraries", {1: "/music"})
    database = navidrome_with(tmp_path, {"id": "a", "path": path}, version=version, libraries=libraries)
    library = NavidromeLibrary(database, **options)
    [track] = tracks_of(library)
    assert all(library.holds(track.path[:length], 1) for length in range(len(track.path) + 1))
    assert not any(library.holds(prefix) for prefix in (f"{track.path}x", f"{track.path[:-1]}x", "a/", "/elsewhere"))
    assert not library.holds(track.path, 2)


def test_missing_tracks_are_not_held(tmp_path: Path) -> None:
    library = NavidromeLibrary(navidrome_with(tmp_path, {"id": "a", "path": "a.mp3", "missing": True}))
    assert not library.holds("/music/")


@pytest.mark.parametrize(
    "path", ["../secret.mp3", "a/../../secret.mp3", "/etc/passwd", "a\0.mp3", "", ".", "/musical/x"]
)
def test_a_path_that_leaves_its_library_is_left_out(tmp_path: Path, path: str) -> None:
    rows = [{"id": "bad", "path": path}, {"id": "good", "path": "a/../good.mp3"}]
    assert paths_of(navidrome_with(tmp_path, *rows)) == {"good": "/music/good.mp3"}


def test_names_in_any_script_come_out_as_they_are(tmp_path: Path) -> None:
    row = {"id": "a", "path": "坂本/Cafe\u0301 🎹.mp3", "title": "Подмосковные вечера", "artist": "坂本 龍一"}
    (track,) = tracks_of(NavidromeLibrary(navidrome_with(tmp_path, row)))
    assert (track.path, track.title, track.artist) == (
        "/music/坂本/Cafe\u0301 🎹.mp3",
        row["title"],
        row["artist"],
    )


def test_bytes_that_are_no_text_do_not_stop_the_reading(tmp_path: Path) -> None:
    row = {"id": "a", "path": "x.mp3", "title": "two\0parts"}
    database = navidrome_with(tmp_path, row)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE media_file SET artist = CAST(x'4265796fe9' AS TEXT)")
        connection.commit()
    (track,) = tracks_of(NavidromeLibrary(database))
    assert (track.title, track.artist) == ("two parts", "Beyo\ufffd")


@pytest.mark.parametrize("duration", [float("inf"), float("-inf"), "Infinity", "NaN", "long", -5, 1e300])
def test_a_duration_that_is_no_length_is_unknown(tmp_path: Path, duration: object) -> None:
    row = {"id": "a", "path": "x.mp3", "duration": duration}
    (track,) = tracks_of(NavidromeLibrary(navidrome_with(tmp_path, row)))
    assert track.duration == 0


def test_absent_values_become_empty_ones(tmp_path: Path) -> None:
    row = {"id": "a", "path": "x.mp3", "artist": "", "updated_at": None}
    (track,) = tracks_of(NavidromeLibrary(navidrome_with(tmp_path, row)))
    assert (track.artist, track.mtime) == ("", "")


@pytest.mark.parametrize("name", ["a?b#c%41&mode=rwc.db", "データ ベース.db", 'it\'s "x".db'])
def test_any_file_name_can_be_opened(tmp_path: Path, name: str) -> None:
    database = make_navidrome(tmp_path / name, [{"id": "a", "path": "x.mp3"}])
    assert paths_of(database) == {"a": "/music/x.mp3"}
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_database_that_is_not_there_is_named_with_its_variable(tmp_path: Path) -> None:
    database = tmp_path / "absent.db"
    with pytest.raises(LibraryUnavailable, match=r"NAVIDROME_DB_PATH is .*absent\.db, which does not exist"):
        NavidromeLibrary(database).folders()
    assert not database.exists()


@pytest.mark.parametrize("content", [b"", b"this is a letter, not a database" * 50])
def test_a_file_that_is_no_navidrome_database_is_refused(tmp_path: Path, content: bytes) -> None:
    database = tmp_path / "letter.db"
    database.write_bytes(content)
    with pytest.raises(LibraryUnavailable, match=r"letter\.db"):
        tracks_of(NavidromeLibrary(database))


def test_a_folder_in_place_of_the_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnavailable, match="cannot be read: Is a directory"):
        NavidromeLibrary(tmp_path).libraries()


def test_a_database_with_a_broken_page_is_refused(tmp_path: Path) -> None:
    database = navidrome_with(tmp_path, *({"id": f"{n:03}", "path": "x" * 200} for n in range(300)))
    content = bytearray(database.read_bytes())
    content[4096 * 5 :] = b"\xff" * len(content[4096 * 5 :])
    database.write_bytes(content)
    with pytest.raises(LibraryUnavailable, match="cannot be read"):
        tracks_of(NavidromeLibrary(database))


SCANNED = "2024-05-06 07:08:09.1234567+02:00"
SCANNED_AT = datetime(2024, 5, 6, 5, 8, 9, 123456, tzinfo=UTC)
NEVER = "0001-01-01 00:00:00+00:00"


def scanned(folder: Path, version: str = "0.58", **columns: str) -> NavidromeLibrary:
    database = make_navidrome(folder / "navidrome.db", version=version, libraries={1: "/music", 2: "/more"})
    assignments = ", ".join(f"{column} = ?" for column in columns)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"UPDATE library SET {assignments} WHERE id = 2", tuple(columns.values()))
    return NavidromeLibrary(database)


@pytest.mark.parametrize("version", VERSIONS)
def test_end_of_the_last_scan_is_the_newest_of_all_libraries(tmp_path: Path, version: str) -> None:
    assert scanned(tmp_path, version, last_scan_at=SCANNED).last_scan() == SCANNED_AT


def test_start_that_navidrome_has_reset_is_no_scan_in_progress(tmp_path: Path) -> None:
    assert scanned(tmp_path, last_scan_at=SCANNED, last_scan_started_at=NEVER).last_scan() == SCANNED_AT


def test_scan_in_progress_has_no_end(tmp_path: Path) -> None:
    assert scanned(tmp_path, last_scan_at=SCANNED, last_scan_started_at=SCANNED).last_scan() is None


def test_library_that_was_never_scanned_has_no_end(tmp_path: Path) -> None:
    assert scanned(tmp_path, last_scan_at=NEVER).last_scan() is None


def test_moment_without_a_zone_is_utc(tmp_path: Path) -> None:
    found = scanned(tmp_path, last_scan_at="2024-05-06 05:08:09").last_scan()
    assert found == SCANNED_AT.replace(microsecond=0)


def test_scans_of_databases_made_by_navidrome_itself_are_understood(tmp_path: Path) -> None:
    for genuine in sorted(GENUINE.glob("*.db")):
        (tmp_path / genuine.name).write_bytes(genuine.read_bytes())
        found = NavidromeLibrary(tmp_path / genuine.name).last_scan()
        assert (found is not None) == genuine.name.startswith("v0.54"), genuine.name
