"""Writes a Navidrome database for the demo: the tables and columns that our reader and search use, as in 0.58."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = """
PRAGMA journal_mode=WAL;
CREATE TABLE library (id integer primary key autoincrement, name text not null unique, path text not null unique,
    remote_path text null default '', last_scan_at datetime not null default '0000-00-00 00:00:00',
    last_scan_started_at datetime not null default '0000-00-00 00:00:00',
    updated_at datetime not null default current_timestamp, created_at datetime not null default current_timestamp,
    default_new_users boolean default false);
CREATE TABLE user (id varchar(255) not null primary key, user_name varchar(255) default '' not null unique,
    name varchar(255) collate NOCASE default '' not null, email varchar(255) default '' not null,
    password varchar(255) default '' not null, is_admin bool default FALSE not null,
    created_at datetime not null default current_timestamp, updated_at datetime not null default current_timestamp);
CREATE TABLE user_library (user_id varchar(255) not null references user (id) on delete cascade,
    library_id integer not null references library (id) on delete cascade, primary key (user_id, library_id));
CREATE TABLE artist (id varchar(255) not null primary key, name varchar(255) default '' not null,
    missing boolean default false not null);
CREATE TABLE media_file (id varchar(255) not null primary key, path varchar(255) default '' not null,
    title varchar(255) default '' not null, album varchar(255) default '' not null,
    artist varchar(255) default '' not null, artist_id varchar(255) default '' not null,
    album_artist varchar(255) default '' not null, album_artist_id varchar(255) default '',
    album_id varchar(255) default '' not null, track_number integer default 0 not null,
    disc_number integer default 0 not null, size integer default 0 not null,
    suffix varchar(255) default '' not null, duration real default 0 not null, genre varchar(255) default '' not null,
    created_at datetime default current_timestamp, updated_at datetime,
    library_id integer default 1 not null references library on delete cascade,
    missing boolean default false not null, participants jsonb default '{}' not null);
CREATE INDEX media_file_missing ON media_file (missing);
CREATE TABLE media_file_artists (media_file_id varchar not null references media_file (id) on delete cascade,
    artist_id varchar not null references artist (id) on delete cascade, role varchar default '' not null,
    sub_role varchar default '' not null, unique (artist_id, media_file_id, role, sub_role));
CREATE INDEX media_file_artists_media_file_id ON media_file_artists (media_file_id);
CREATE TABLE playlist (id varchar(255) not null primary key, name varchar(255) default '' not null,
    owner_id varchar(255) not null references user on update cascade on delete cascade);
CREATE TABLE playlist_tracks (id integer default 0 not null, playlist_id varchar(255) not null references playlist
    on update cascade on delete cascade, media_file_id varchar(255) not null);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One track as Navidrome would list it."""

    library_id: int
    path: str
    """Relative to the library's folder."""
    title: str
    artists: tuple[str, ...]
    album: str
    number: int
    genre: str
    duration: float
    size: int = 0
    updated_at: str = ""
    missing: bool = False

    @property
    def id(self) -> str:
        return made_id("track", str(self.library_id), self.path)


def made_id(*parts: str) -> str:
    """Return an id of 22 characters, as long as Navidrome's; the same parts give the same id."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:22]


def write_database(
    path: Path,
    libraries: Mapping[int, tuple[str, str]],
    users: Mapping[str, set[int]],
    rows: Iterable[Row],
    *,
    version: int,
) -> None:
    """Write a new database. ``libraries``: id → name and folder; ``users``: name → libraries they may see.

    The first user is an administrator. ``version`` goes into ``user_version``, which Navidrome does not use.
    """
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA user_version = {version}")
        for number, (name, folder) in libraries.items():
            _insert(connection, "library", id=number, name=name, path=folder)
        for position, (name, allowed) in enumerate(users.items()):
            _insert(connection, "user", id=made_id("user", name), user_name=name, name=name, is_admin=position == 0)
            for number in sorted(allowed):
                _insert(connection, "user_library", user_id=made_id("user", name), library_id=number)
        for row in rows:
            _insert_track(connection, row)
        connection.commit()


def _insert_track(connection: sqlite3.Connection, row: Row) -> None:
    artists = [{"id": made_id("artist", name), "name": name} for name in row.artists]
    _insert(
        connection,
        "media_file",
        id=row.id,
        path=row.path,
        title=row.title,
        album=row.album,
        artist=" • ".join(row.artists),
        artist_id=artists[0]["id"],
        album_artist=row.artists[0],
        album_artist_id=artists[0]["id"],
        album_id=made_id("album", row.artists[0], row.album),
        track_number=row.number,
        disc_number=1,
        size=row.size,
        suffix=row.path.rpartition(".")[2],
        duration=row.duration,
        genre=row.genre,
        updated_at=row.updated_at,
        library_id=row.library_id,
        missing=row.missing,
        participants=json.dumps({"artist": artists, "albumartist": artists[:1]}, ensure_ascii=False),
    )
    for artist in artists:
        connection.execute("INSERT OR IGNORE INTO artist (id, name) VALUES (?, ?)", (artist["id"], artist["name"]))
        _insert(connection, "media_file_artists", media_file_id=row.id, artist_id=artist["id"], role="artist")
    _insert(connection, "media_file_artists", media_file_id=row.id, artist_id=artists[0]["id"], role="albumartist")


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    marks = ", ".join("?" for _ in values)
    connection.execute(
        f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",  # noqa: S608 — our own names
        tuple(values.values()),
    )
