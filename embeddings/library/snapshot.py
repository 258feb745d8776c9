"""A copy of what we read of Navidrome's database, for a machine that cannot read the database itself.

A database with a write-ahead log cannot be read over a network share. The copy can: it has none, and never changes, for
a new one takes its name in one step. Its header says nevertheless that it has a log: so ``sqlite.py`` opens it as
immutable, without locks, also in a folder that cannot be written to.

Only the columns below are copied: no names of users, passwords or tokens, and of playlists no more than their tracks.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import quote

from django.conf import settings

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import Library
from embeddings.library.sqlite import ForeignDatabase

COLUMNS = {
    "library": ("id", "name", "path", "last_scan_at", "last_scan_started_at"),
    "media_file": (
        "id", "library_id", "path", "title", "artist", "album", "duration", "size", "updated_at", "missing", "genre",
        "artist_id", "album_artist_id", "album_id", "participants",
    ),
    "media_file_artists": ("media_file_id", "artist_id", "role"),
    "artist": ("id", "name"),
    "playlist_tracks": ("playlist_id", "media_file_id"),
    "user": ("id", "is_admin"),
    "user_library": ("user_id", "library_id"),
}  # fmt: skip
"""What ``navidrome.py`` and ``visibility.py`` ask for; older versions have fewer."""
INDEXED = {
    "media_file": ("id", "path", "album_id"),
    "media_file_artists": ("media_file_id", "artist_id"),
    "artist": ("id",),
    "playlist_tracks": ("playlist_id",),
}
PIECE = 2**20


class NotASnapshot(Exception):
    """What was sent, or written, is not whole, or something else."""


def open_snapshot(library: Library) -> IO[bytes]:
    """Return a snapshot as of now, as an open file that has no name any more. Raises LibraryUnavailable."""
    from embeddings.library.navidrome import NavidromeLibrary

    if not isinstance(library, NavidromeLibrary):
        raise LibraryUnavailable(f"NAVEMBED_LIBRARY is {settings.LIBRARY}: there is no database of Navidrome.")
    with tempfile.TemporaryDirectory(prefix="navembed-") as folder:
        target = Path(folder, "snapshot.db")
        library.snapshot(target)
        return target.open("rb")


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the file's content."""
    while piece := file.read(PIECE):
        yield piece


def save(pieces: Iterable[bytes], target: Path) -> int:
    """Writes this content to ``target``, for its owner and group; returns how many tracks it has.

    What was there is replaced when the new one is whole and on the disk. Raises NotASnapshot, OSError.
    """
    descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}-")
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(descriptor)
        tracks = _require_whole(partial)
        partial.chmod(0o640)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return tracks


def _require_whole(path: Path) -> int:
    """Return how many tracks a snapshot has. Raises NotASnapshot."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)) as connection:
            ((found,),) = connection.execute("PRAGMA quick_check(1)")
            ((tracks,),) = connection.execute("SELECT count(*) FROM media_file")
    except sqlite3.Error as error:
        raise NotASnapshot(str(error)) from error
    if found != "ok":
        raise NotASnapshot(found)
    return int(tracks)


def extract(database: ForeignDatabase, target: Path) -> None:
    """Write the columns to the new database ``target``, as they are at one moment. Raises as ``database.run``."""

    def work(source: sqlite3.Connection) -> bool:
        target.unlink(missing_ok=True)
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous=OFF")
            copy.execute("PRAGMA journal_mode=WAL")
            source.execute("BEGIN")
            try:
                for table, columns in COLUMNS.items():
                    _copy(source, copy, table, columns)
            finally:
                source.rollback()
        return True

    database.run(work)


def _copy(source: sqlite3.Connection, copy: sqlite3.Connection, table: str, columns: tuple[str, ...]) -> None:
    """Copy those of the columns that there are. Values stay as they are, also texts that are no UTF-8."""
    there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    names = [name for name in columns if name in there]
    if not names:
        return
    copy.execute(f"CREATE TABLE {table} ({', '.join(names)})")
    numbers = range(1, len(names) + 1)
    marks = ", ".join(f"CASE typeof(?{n}) WHEN 'blob' THEN CAST(?{n} AS TEXT) ELSE ?{n} END" for n in numbers)
    decoding, source.text_factory = source.text_factory, bytes
    try:
        rows = source.execute(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608
        copy.execute("BEGIN")
        copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608
    finally:
        source.text_factory = decoding
    for name in INDEXED.get(table, ()):
        copy.execute(f"CREATE INDEX {table}_{name} ON {table} ({name})")
    copy.execute("COMMIT")
