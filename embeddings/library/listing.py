"""A music server's list of tracks in a file of ours: read over the network once for each of its scans, asked often.

A new list is written beside the old one and takes its place as a whole, so nobody ever sees half of one.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from embeddings.errors import LibraryUnavailable

TABLES = """
CREATE TABLE about (source TEXT NOT NULL, scan TEXT NOT NULL);
CREATE TABLE library (id INTEGER PRIMARY KEY, name TEXT NOT NULL, skipped INTEGER NOT NULL DEFAULT 0);
CREATE TABLE track (
    id TEXT PRIMARY KEY, library_id INTEGER NOT NULL, path TEXT NOT NULL, title TEXT NOT NULL, artist TEXT NOT NULL,
    album TEXT NOT NULL, duration REAL NOT NULL, size INTEGER NOT NULL, mtime TEXT NOT NULL, genre TEXT NOT NULL,
    artist_id TEXT NOT NULL, album_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE artist (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE part (artist_id TEXT, track_id TEXT, plays INTEGER, PRIMARY KEY (artist_id, track_id)) WITHOUT ROWID;
"""
INDEXES = """
CREATE INDEX part_of_track ON part (track_id);
CREATE INDEX track_of_album ON track (album_id);
"""
COLUMNS = (
    "id", "library_id", "path", "title", "artist", "album", "duration", "size", "mtime", "genre", "artist_id",
    "album_id",
)  # fmt: skip
ADD = f"INSERT OR IGNORE INTO track VALUES ({', '.join(':' + name for name in COLUMNS)})"
ADD_ARTIST = "INSERT OR IGNORE INTO artist VALUES (?, ?)"
ADD_PART = """
    INSERT INTO part VALUES (?, ?, ?)
    ON CONFLICT (artist_id, track_id) DO UPDATE SET plays = max(plays, excluded.plays)"""
WORK = "fetched-"  # begins the names of folders that hold something for a while only
CACHE_KILOBYTES = 8_000  # else a large list would lie in memory


@dataclass(frozen=True)
class Folder:
    """A library of the server."""

    name: str
    skipped: int
    """Parts at the beginning of each path that are not below the library's folder on this machine."""


@dataclass(frozen=True)
class Person:
    """Somebody who takes part in a track; ``plays`` is False for composers and the like."""

    id: str
    name: str
    plays: bool


@dataclass(frozen=True)
class Song:
    """A track by ``COLUMNS``, and who takes part in it."""

    row: Mapping[str, Any]
    people: Sequence[Person]


class Listing:
    """The list in ``file``. Its methods raise LibraryUnavailable when it cannot be read."""

    def __init__(self, file: Path) -> None:
        self.file = file

    @property
    def is_there(self) -> bool:
        return self.file.is_file()

    def is_of(self, source: str, scan: str) -> bool:
        """Whether it is the list of this server after this scan; never, when the server does not tell scans apart."""
        return bool(scan) and self.is_there and self.ask("SELECT source, scan FROM about") == [(source, scan)]

    def ask(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        if not self.is_there:
            raise LibraryUnavailable("The music server's list of tracks has not been read yet; a job reads it.")
        try:
            with closing(sqlite3.connect(f"file:{quote(str(self.file))}?mode=ro", uri=True)) as connection:
                return connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise LibraryUnavailable(
                f"The music server's list of tracks in {self.file} cannot be read: {error}."
            ) from error

    def folders(self) -> dict[int, Folder]:
        """Return the server's libraries by id."""
        return {row[0]: Folder(*row[1:]) for row in self.ask("SELECT id, name, skipped FROM library ORDER BY id")}

    @contextmanager
    def renewed(self, source: str, scan: str) -> Iterator[Draft]:
        """Yield a new list, which takes the old one's place at the end. Raises LibraryUnavailable."""
        folder = self.file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=WORK, dir=folder) as work:
                new = Path(work, self.file.name)
                with closing(sqlite3.connect(new, isolation_level=None)) as connection:
                    connection.execute("PRAGMA journal_mode = OFF")  # what is broken off is made anew
                    connection.execute(f"PRAGMA cache_size = -{CACHE_KILOBYTES}")
                    connection.executescript(TABLES)
                    connection.execute("INSERT INTO about VALUES (?, ?)", (source, scan))
                    yield Draft(connection)
                    connection.executescript(INDEXES)
                new.replace(self.file)
        except (OSError, sqlite3.Error) as error:
            raise LibraryUnavailable(
                f"The music server's list of tracks cannot be kept in {folder}: {error}."
            ) from error


class Draft:
    """A list that is being written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add_library(self, number: int, name: str) -> None:
        self._connection.execute("INSERT OR REPLACE INTO library (id, name) VALUES (?, ?)", (number, name))

    def skip(self, number: int, parts: int) -> None:
        """Note how much of a library's paths is not below its folder on this machine."""
        self._connection.execute("UPDATE library SET skipped = ? WHERE id = ?", (parts, number))

    def add(self, songs: Sequence[Song]) -> int:
        """Add tracks; return how many were not in the list."""
        self._connection.execute("BEGIN")
        before = self._connection.total_changes
        self._connection.executemany(ADD, (song.row for song in songs))
        added = self._connection.total_changes - before
        people = [(person, song.row["id"]) for song in songs for person in song.people]
        self._connection.executemany(ADD_ARTIST, ((person.id, person.name) for person, _ in people))
        self._connection.executemany(ADD_PART, ((person.id, track, person.plays) for person, track in people))
        self._connection.execute("COMMIT")
        return added

    def examples(self, number: int, count: int) -> list[str]:
        """Return paths of some tracks of a library, as the server tells them."""
        rows = self._connection.execute("SELECT path FROM track WHERE library_id = ? LIMIT ?", (number, count))
        return [path for (path,) in rows]
