"""Snapshots of Navidrome's database: the same answers, nothing secret, nothing half."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from pytest_django.live_server_helper import LiveServer

from embeddings.errors import LibraryUnavailable
from embeddings.library import snapshot
from embeddings.library.navidrome import NavidromeLibrary
from embeddings.library.snapshot import open_snapshot, pieces_of, save
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.library.test_navidrome import GENUINE
from tests.library.test_sqlite import folder, without_write_permission
from tests.navidrome_db import VERSIONS, add_tracks, make_navidrome

__all__ = ["folder"]

USERS = """
INSERT INTO user (id, user_name, name, password, is_admin, created_at, updated_at)
    VALUES ('u', 'annas_name', 'Anna', 'annas_password', 0, '2025', '2025'), ('root', 'r', 'r', 'r', 1, '2025', '2025');
INSERT INTO playlist (id, name, owner_id) VALUES ('p', 'annas_playlist', 'u');
INSERT INTO playlist_tracks VALUES (1, 'p', 'b');
UPDATE library SET last_scan_at = '2025-01-02 03:04:05';
UPDATE media_file SET album_id = 'al' WHERE id = 'b';
INSERT INTO artist (id, name) VALUES ('x', 'X');
"""
SINCE = {
    "0.55": """
        UPDATE media_file SET missing = 1 WHERE id = 'c';
        UPDATE media_file SET participants = '{"artist": [{"id": "x"}]}';
        INSERT INTO media_file_artists VALUES ('a', 'guest', 'performer', 'drums');""",
    "0.58": "INSERT INTO user_library VALUES ('u', 2);",
}
IDS = ["a", "b", "c", "gone"]


def navidrome(path: Path, version: str = "0.63") -> Path:
    """A database in which every table that is read has something."""
    places = {"a": (1, "/music/a"), "b": (2, "/more/b"), "c": (1, "/music/c")}
    tracks = [{"id": i, "library_id": number, "path": path, "artist_id": "x"} for i, (number, path) in places.items()]
    database = make_navidrome(path, tracks, version, libraries={1: "/music", 2: "/more"})
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(USERS)
        for since, statements in SINCE.items():
            if VERSIONS.index(since) <= VERSIONS.index(version):
                connection.executescript(statements)
    return database


def take(database: Path, target: Path) -> Path:
    with open_snapshot(NavidromeLibrary(database)) as file:
        save(pieces_of(file), target)
    return target


def answers(database: Path) -> dict[str, Any]:
    """All that a library can be asked."""
    library = NavidromeLibrary(database)
    return {
        "pages": list(library.pages()),
        "count": library.count(),
        "holds": [library.holds(prefix, number) for prefix in ("/music/a", "/x") for number in (None, 1, 2)],
        "folders": library.folders(),
        "libraries": library.libraries(),
        "last_scan": library.last_scan(),
        "present": library.present(IDS),
        "deleted": library.deleted(dict.fromkeys(IDS, 1)),
        "visible_to": [library.visible_to(user) for user in ("u", "root", "nobody")],
        "in_playlists": library.in_playlists(["p", "q"]),
        "of_album": library.of_album("al"),
        "of_artist": [library.of_artist(artist) for artist in ("x", "guest")],
        "artist_names": library.artist_names(["x", "gone"]),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_snapshot_answers_as_the_database(tmp_path: Path, version: str) -> None:
    database = navidrome(tmp_path / "navidrome.db", version)
    asked = answers(database)
    assert asked["pages"]
    assert (asked["in_playlists"], asked["of_album"], asked["artist_names"]) == ({"b"}, {"b"}, {"x": "X"})
    assert answers(take(database, tmp_path / "snapshot.db")) == asked


def test_snapshot_of_databases_made_by_navidrome_itself(tmp_path: Path) -> None:
    for genuine in sorted(GENUINE.glob("*.db")):
        database = tmp_path / genuine.name
        database.write_bytes(genuine.read_bytes())
        with closing(sqlite3.connect(database)) as connection:
            add_tracks(connection, [{"id": "a", "path": "/music/a.mp3"}])
        asked = answers(database)
        assert asked["pages"], genuine.name
        assert answers(take(database, tmp_path / "snapshot.db")) == asked, genuine.name


def test_nothing_is_copied_that_is_not_read(tmp_path: Path) -> None:
    content = take(navidrome(tmp_path / "navidrome.db"), tmp_path / "snapshot.db").read_bytes()
    assert b"annas" in (tmp_path / "navidrome.db").read_bytes()
    assert b"annas" not in content


def test_names_that_are_no_utf8_stay_as_they_are(tmp_path: Path) -> None:
    database = navidrome(tmp_path / "navidrome.db")
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE media_file SET path = CAST(x'2f6d757369632fff' AS TEXT) WHERE id = 'a'")
        connection.commit()
    asked = answers(database)
    assert "\ufffd" not in asked["pages"][0][0].path
    assert answers(take(database, tmp_path / "snapshot.db")) == asked


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A database whose Navidrome runs, and adds a track to a playlist between any two tables of a snapshot."""
    database = navidrome(tmp_path / "navidrome.db")
    copy = snapshot._copy
    with closing(sqlite3.connect(database, check_same_thread=False)) as writer:

        def write_and_copy(source: Any, target: Any, table: str, columns: Any) -> None:
            add_tracks(writer, [{"id": f"new {table}", "path": f"/music/{table}"}])
            writer.execute(
                "INSERT INTO playlist_tracks VALUES ((SELECT count(*) + 1 FROM playlist_tracks), 'p', 'new')"
            )
            writer.commit()
            copy(source, target, table, columns)

        add_tracks(writer, [{"id": "in the log", "path": "/music/d"}])
        monkeypatch.setattr(snapshot, "_copy", write_and_copy)
        yield database


def test_snapshot_is_of_one_moment(busy: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(take(busy, tmp_path / "snapshot.db"))) as connection:
        assert connection.execute("SELECT count(*) FROM media_file").fetchone() == (5,)
        assert connection.execute("SELECT count(*) FROM playlist_tracks").fetchone() == (2,)


def test_snapshot_is_read_where_nothing_can_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(navidrome(folder / "navidrome.db"), folder / "snapshot.db")
    asked, files = answers(folder / "navidrome.db"), sorted(folder.iterdir())
    there = asked["deleted"]
    monkeypatch.setattr(NavidromeLibrary, "deleted", lambda *_: there)  # starts a program, which nobody may not
    with without_write_permission(folder):
        assert answers(folder / "snapshot.db") == asked
    assert sorted(folder.iterdir()) == files


def test_snapshot_is_for_its_owner_and_his_group(tmp_path: Path) -> None:
    assert take(navidrome(tmp_path / "navidrome.db"), tmp_path / "snapshot.db").stat().st_mode & 0o777 == 0o640


# The command


@pytest.fixture
def beside_navidrome(tmp_path: Path, settings: Any) -> Path:
    """The database that the tests' instance reads."""
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", navidrome(tmp_path / "navidrome.db")
    return tmp_path / "navidrome.db"


@pytest.fixture
def token_file(tmp_path: Path, transactional_db: None) -> Path:
    (tmp_path / "token").write_text(create_token("gpu box", Scope.OPERATE, created_by="test").secret + "\n")
    return tmp_path / "token"


def test_command_replaces_the_last_snapshot(beside_navidrome: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "snapshot.db").write_text("the last one")
    call_command("library_snapshot", to=tmp_path / "snapshot.db")
    assert answers(tmp_path / "snapshot.db") == answers(beside_navidrome)
    assert "has 3 tracks" in capsys.readouterr().out


def test_database_that_is_not_navidromes_leaves_the_last_snapshot(
    beside_navidrome: Path, tmp_path: Path, settings: Any
) -> None:
    (tmp_path / "snapshot.db").write_text("the last one")
    settings.NAVIDROME_DB_PATH = tmp_path / "other.db"
    sqlite3.connect(tmp_path / "other.db").executescript("CREATE TABLE a (b)").connection.close()
    with pytest.raises(CommandError, match=r"is as it was: .*no database of Navidrome"):
        call_command("library_snapshot", to=tmp_path / "snapshot.db")
    assert (tmp_path / "snapshot.db").read_text() == "the last one"


def test_folder_has_no_snapshot(settings: Any, tmp_path: Path) -> None:
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path
    with pytest.raises(CommandError, match="NAVEMBED_LIBRARY is folder"):
        call_command("library_snapshot", to=tmp_path / "snapshot.db")


def test_snapshot_comes_over_http(
    beside_navidrome: Path, token_file: Path, tmp_path: Path, live_server: LiveServer
) -> None:
    call_command("library_snapshot", "--from", live_server.url, to=tmp_path / "here.db", token_file=token_file)
    assert answers(tmp_path / "here.db") == answers(beside_navidrome)


def test_reader_gets_no_snapshot(
    beside_navidrome: Path, token_file: Path, tmp_path: Path, live_server: LiveServer
) -> None:
    token_file.write_text(create_token("reader", Scope.READ, created_by="test").secret)
    with pytest.raises(CommandError, match="answered 403: This needs the scope operate; reader has read"):
        call_command("library_snapshot", "--from", live_server.url, to=tmp_path / "here.db", token_file=token_file)


@pytest.mark.parametrize("spoil", [lambda content: content[:-5000], lambda content: b"<html>", lambda content: b""])
def test_what_is_not_whole_replaces_nothing(beside_navidrome: Path, tmp_path: Path, spoil: Any) -> None:
    target = take(beside_navidrome, tmp_path / "snapshot.db")
    content, files = target.read_bytes(), sorted(tmp_path.iterdir())
    with pytest.raises(snapshot.NotASnapshot):
        save([spoil(content)], target)
    assert (target.read_bytes(), sorted(tmp_path.iterdir())) == (content, files)


def test_server_that_is_away_is_said(token_file: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"is as it was: .*refused"):
        call_command("library_snapshot", "--from", "http://127.0.0.1:1", to=tmp_path / "here.db", token_file=token_file)


def test_database_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LibraryUnavailable, match="does not exist"):
        open_snapshot(NavidromeLibrary(tmp_path / "nothing.db"))
