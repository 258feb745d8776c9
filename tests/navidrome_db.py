"""Makes Navidrome databases of any schema version, for tests: the tables and columns that a reader meets."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

VERSIONS = ("0.54", "0.55", "0.58", "0.63")

TABLES = """
CREATE TABLE library (id integer primary key autoincrement, name text not null unique, path text not null
    unique, remote_path text null default '', last_scan_at datetime not null default '0000-00-00 00:00:00');
CREATE TABLE artist (id varchar(255) not null primary key, name varchar(255) default '' not null);
CREATE TABLE user (id varchar(255) not null primary key, user_name varchar(255) default '' not null unique,
    name varchar(255) collate NOCASE default '' not null, password varchar(255) default '' not null,
    is_admin bool default FALSE not null, created_at datetime not null, updated_at datetime not null);
CREATE TABLE media_file (id varchar(255) not null primary key, path varchar(255) default '' not null,
    title varchar(255) default '' not null, album varchar(255) default '' not null,
    artist varchar(255) default '' not null, artist_id varchar(255) default '' not null,
    album_artist varchar(255) default '' not null, album_id varchar(255) default '' not null,
    track_number integer default 0 not null, disc_number integer default 0 not null,
    genre varchar(255) default '' not null,
    size integer default 0 not null, suffix varchar(255) default '' not null, duration real default 0
    not null, created_at datetime, updated_at datetime,
    library_id integer default 1 not null references library on delete cascade);
CREATE TABLE playlist (id varchar(255) not null primary key, name varchar(255) default '' not null,
    owner_id varchar(255) not null references user on update cascade on delete cascade);
CREATE TABLE playlist_tracks (id integer default 0 not null, playlist_id varchar(255) not null references playlist
    on update cascade on delete cascade, media_file_id varchar(255) not null);
CREATE UNIQUE INDEX playlist_tracks_pos ON playlist_tracks (playlist_id, id);
"""
SINCE = {
    "0.55": """
ALTER TABLE library ADD COLUMN last_scan_started_at datetime default '0000-00-00 00:00:00' not null;
ALTER TABLE library ADD COLUMN full_scan_in_progress boolean default false not null;
ALTER TABLE media_file ADD COLUMN folder_id varchar default '' not null;
ALTER TABLE media_file ADD COLUMN pid varchar default '' not null;
ALTER TABLE media_file ADD COLUMN missing boolean default false not null;
ALTER TABLE media_file ADD COLUMN tags jsonb default '{}' not null;
ALTER TABLE media_file ADD COLUMN participants jsonb default '{}' not null;
ALTER TABLE artist ADD COLUMN missing boolean default false not null;
CREATE INDEX media_file_missing ON media_file (missing);
CREATE TABLE media_file_artists (media_file_id varchar not null references media_file (id) on delete cascade,
    artist_id varchar not null references artist (id) on delete cascade, role varchar default '' not null,
    sub_role varchar default '' not null, unique (artist_id, media_file_id, role, sub_role));
""",
    "0.58": """
CREATE TABLE user_library (user_id varchar(255) not null references user (id) on delete cascade,
    library_id integer not null references library (id) on delete cascade, primary key (user_id, library_id));
""",
    "0.63": """
ALTER TABLE media_file ADD COLUMN codec varchar(255) default '' not null;
ALTER TABLE media_file ADD COLUMN probe_data text default '' not null;
DROP INDEX media_file_missing;
CREATE INDEX media_file_missing_library_id ON media_file (missing, library_id);
""",
}


def make_navidrome(
    path: Path,
    tracks: Iterable[Mapping[str, Any]] = (),
    version: str = "0.58",
    *,
    libraries: Mapping[int, str] | None = None,
    journal: str = "wal",
) -> Path:
    """Write a database as Navidrome of ``version`` leaves it when it is stopped; returns ``path``.

    A track is a row of ``media_file``: at least ``id`` and ``path``. ``libraries`` maps ids to folders.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.executescript(TABLES)
        for number in VERSIONS[1 : VERSIONS.index(version) + 1]:
            connection.executescript(SINCE[number])
        add_libraries(connection, libraries or {1: "/music"})
        add_tracks(connection, tracks)
    return path


def add_libraries(connection: sqlite3.Connection, libraries: Mapping[int, str]) -> None:
    """Add (or move) libraries, named ``Library <id>``, and commit."""
    rows = [(number, f"Library {number}", folder) for number, folder in libraries.items()]
    connection.executemany("INSERT OR REPLACE INTO library (id, name, path) VALUES (?, ?, ?)", rows)
    connection.commit()


def add_tracks(connection: sqlite3.Connection, tracks: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to ``media_file`` and commit."""
    defaults = {"title": "Title", "artist": "Artist", "album": "Album", "genre": "Folk", "duration": 60.5, "size": 1000}
    for track in tracks:
        row = {**defaults, "updated_at": "2024-05-06 07:08:09.123456789+02:00", **track}
        marks = ", ".join("?" for _ in row)
        connection.execute(f"INSERT INTO media_file ({', '.join(row)}) VALUES ({marks})", tuple(row.values()))
    connection.commit()
