"""What a recommendation asks of Navidrome's database, in every version of its schema."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import LibraryUnavailable
from embeddings.library.navidrome import NavidromeLibrary
from tests.navidrome_db import VERSIONS, make_navidrome

NOW = "2025-01-01"


def library(path: Path, version: str, tracks: list[dict[str, Any]], *sql: str) -> NavidromeLibrary:
    database = make_navidrome(path / "navidrome.db", tracks, version, libraries={1: "/one", 2: "/two"})
    with closing(sqlite3.connect(database)) as connection:
        for statement in sql:
            connection.execute(statement)
        connection.commit()
    return NavidromeLibrary(database)


@pytest.mark.parametrize("version", VERSIONS)
def test_tracks_that_are_there(tmp_path: Path, version: str) -> None:
    tracks = [{"id": i, "path": i, "artist_id": "a", "library_id": 2, "title": i.upper()} for i in "xyz"]
    lost = "DELETE FROM media_file WHERE id = 'z'"
    missing = lost if version == "0.54" else "UPDATE media_file SET missing = 1 WHERE id = 'z'"
    found = library(tmp_path, version, tracks, missing).present(["x", "z", "nobody", "'"])
    assert list(found) == ["x"]
    assert (found["x"].library_id, found["x"].title, found["x"].artist_id) == (2, "X", "a")
    assert found["x"].participants == {"a"}


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_participants_are_everybody_whom_navidrome_names(tmp_path: Path, version: str) -> None:
    people = json.dumps({"artist": [{"id": "a"}], "composer": [{"id": "c", "name": "C"}]})
    tracks = [{"id": "x", "path": "x", "artist_id": "a", "participants": people}]
    guest = "INSERT INTO media_file_artists VALUES ('x', 'guest', 'performer', 'drums')"
    assert library(tmp_path, version, tracks, guest).present(["x"])["x"].participants == {"a", "c", "guest"}


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"artist": [1]}', '{"artist": null}', "null", '{"a": [{}]}'])
def test_damaged_participants_are_nobody(tmp_path: Path, damaged: str) -> None:
    tracks = [{"id": "x", "path": "x", "artist_id": "a", "participants": damaged}]
    assert library(tmp_path, "0.63", tracks).present(["x"])["x"].participants == {"a"}


def test_more_tracks_than_sqlite_takes_parameters(tmp_path: Path) -> None:
    ids = [f"t{n}" for n in range(2000)]
    assert set(library(tmp_path, "0.58", [{"id": i, "path": i} for i in ids]).present([*ids, "x"])) == set(ids)


@pytest.mark.parametrize("version", VERSIONS[2:])
def test_libraries_of_users(tmp_path: Path, version: str) -> None:
    users = [
        f"INSERT INTO user (id, user_name, is_admin, created_at, updated_at) VALUES ('{i}', '{i}', {admin}, '', '')"
        for i, admin in (("boss", 1), ("ann", 0), ("bob", 0), ("none", 0))
    ]
    grants = [f"INSERT INTO user_library VALUES ('{i}', {n})" for i, n in (("ann", 1), ("bob", 1), ("bob", 2))]
    found = library(tmp_path, version, [], *users, *grants)
    assert found.visible_to("boss") is None
    assert (found.visible_to("ann"), found.visible_to("bob"), found.visible_to("none")) == ({1}, {1, 2}, set())
    assert found.visible_to("stranger") == set()  # "none" sees nothing


def test_libraries_of_users_by_name(tmp_path: Path) -> None:
    users = [
        f"INSERT INTO user (id, user_name, is_admin, created_at, updated_at) VALUES ('{i}', '{name}', {admin}, '', '')"
        for i, name, admin in (("u1", "Boss", 1), ("u2", "Ann", 0), ("Ann", "Bob", 0))
    ]
    found = library(tmp_path, "0.63", [], *users, "INSERT INTO user_library VALUES ('u2', 1), ('Ann', 2)")
    assert (found.visible_to("boss"), found.visible_to("ann"), found.visible_to("bob")) == (None, {1}, {2})
    assert found.visible_to("Ann") == {2}  # somebody's id before somebody's name


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_older_versions_restrict_nobody(tmp_path: Path, version: str) -> None:
    assert library(tmp_path, version, []).visible_to("anybody") is None


@pytest.mark.parametrize("version", VERSIONS)
def test_tracks_of_playlists(tmp_path: Path, version: str) -> None:
    rows = [f"INSERT INTO playlist_tracks VALUES ({n}, '{p}', '{t}')" for n, (p, t) in enumerate(["px", "py", "qz"])]
    assert library(tmp_path, version, [], *rows).in_playlists(["p", "unknown"]) == {"x", "y"}


def test_database_that_is_away_says_so(tmp_path: Path) -> None:
    gone = NavidromeLibrary(tmp_path / "gone.db")
    for ask in (gone.present, gone.in_playlists):
        with pytest.raises(LibraryUnavailable, match="does not exist"):
            ask(["x"])
    with pytest.raises(LibraryUnavailable):
        gone.visible_to("x")


@pytest.mark.parametrize("version", VERSIONS)
def test_tracks_of_albums_and_artists(tmp_path: Path, version: str) -> None:
    tracks = [{"id": i, "path": i, "artist_id": "a", "album_id": "al"} for i in "xy"]
    named = [f"INSERT INTO media_file_artists VALUES ('{i}', 'a', 'artist', '')" for i in "xy"]
    found = library(tmp_path, version, tracks, *(named if version != "0.54" else []))
    assert found.of_album("al") == found.of_artist("a") == {"x", "y"}
    assert found.of_album("nobody") == found.of_artist("nobody") == set()


def test_artist_is_who_plays_and_else_whoever_takes_part(tmp_path: Path) -> None:
    parts = [("x", "a", "artist"), ("y", "a", "producer"), ("y", "c", "composer")]
    named = [f"INSERT INTO media_file_artists VALUES ('{i}', '{who}', '{role}', '')" for i, who, role in parts]
    found = library(tmp_path, "0.63", [{"id": i, "path": i} for i in "xy"], *named)
    assert (found.of_artist("a"), found.of_artist("c")) == ({"x"}, {"y"})
