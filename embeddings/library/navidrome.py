"""Navidrome's library, read from its SQLite database; schemas of versions 0.54 to 0.63."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import PAGE_SIZE, LibraryTrack, PresentTrack, Tell, finite, tell_nobody
from embeddings.library.reader import ANSWER_SECONDS, look_at
from embeddings.library.snapshot import extract
from embeddings.library.sqlite import BUSY_SECONDS, ForeignDatabase, Row
from embeddings.library.visibility import (
    artist_names,
    existing_tracks,
    in_playlists,
    of_album,
    of_artist,
    present_tracks,
    visible_to,
)
from navembed_site.names import LONGEST_TEXT, clean_text, short_text, storable, storable_id
from navembed_site.process.slow_calls import RaiseIfStopped, within

logger = logging.getLogger(__name__)

MOST_BYTES = 2**53  # more is no size, and not every database takes it
MTIME_LENGTH = 64
SNAPSHOT_SECONDS = 240.0
LISTENER_SECONDS = 1.0  # that somebody who waits for music waits for a locked database

TEXT = "CAST(SUBSTR(CAST({name} AS BLOB), 1, {most}) AS TEXT)"
"""The beginning of a column in bytes: by characters SQLite stops at a NUL. ``short_text`` cuts what remains."""
TITLE, ARTIST, ALBUM, GENRE = (
    TEXT.format(name=name, most=4 * LONGEST_TEXT) for name in ("title", "artist", "album", "genre")
)
PAGE = f"""
    SELECT CAST(id AS BLOB), library_id, CAST(path AS BLOB), {TITLE}, {ARTIST}, {ALBUM}, duration, size, updated_at,
        {{genre}}
    FROM media_file WHERE id > CAST(? AS TEXT) AND typeof(id) = 'text' {{present}} ORDER BY id LIMIT ?
"""  # noqa: S608  (our own constants)
# Names as bytes: those of old rips are often no UTF-8, and every player finds them.
# The unary plus keeps SQLite from using the index on `missing` and sorting the whole table for each page.
PRESENT = "AND +missing IS NOT 1"
BEGINNING = "SELECT 1 FROM media_file WHERE path >= ? AND path < ? AND +library_id = ? {present} LIMIT 1"
# Ids are in no order of folders.
EXAMPLES = "SELECT CAST(path AS BLOB) FROM media_file WHERE +library_id = ? {present} ORDER BY id LIMIT ?"
LAST = "\U0010ffff"  # comes after every character
COUNT = "SELECT COUNT(*) FROM media_file"
COUNT_PRESENT = "SELECT COUNT(*) FROM media_file WHERE missing IS NOT 1"

SCANS = "SELECT last_scan_at, last_scan_started_at FROM library"
SCANS_BEFORE_055 = "SELECT last_scan_at, NULL FROM library"


@dataclass(frozen=True, slots=True)
class LibraryFolder:
    """One of Navidrome's libraries: where Navidrome sees its folder, and where it lies on this machine."""

    name: str
    stated: str
    root: str
    bases: tuple[str, ...]
    """What a track's path may be relative to, for Navidrome; the first that leads into ``stated`` counts."""

    def resolve(self, path: str) -> str | None:
        """Return a track's absolute path on this machine; None when ``path`` leaves the library's folder.

        ``..`` is resolved by name alone; links inside the library may lead anywhere, as for Navidrome.
        """
        if "\0" in path:
            return None
        prefix = self.stated.rstrip("/") + "/"
        for base in self.bases:
            full = os.path.normpath(path if path.startswith("/") else f"{base.rstrip('/')}/{path}")
            if full.startswith(prefix) and full != prefix:
                return f"{self.root.rstrip('/')}/{full.removeprefix(prefix)}"
        return None

    def stored(self, path_prefix: str) -> list[str]:
        """Return how a path may begin in Navidrome's table that begins with ``path_prefix`` on this machine."""
        root = self.root.rstrip("/") + "/"
        if root.startswith(path_prefix):
            return [""]
        if not path_prefix.startswith(root):
            return []
        full = f"{self.stated.rstrip('/')}/{path_prefix.removeprefix(root)}"
        return [full, *(full.removeprefix(base.rstrip("/") + "/") for base in self.bases)]


class NavidromeLibrary:
    """Tracks of Navidrome's database at ``database``, which is never written to.

    A library's folder is the first of these: ``path_map[id]``; ``music_root`` for library 1; what Navidrome's
    ``library`` table says. A relative one there is relative to Navidrome's working folder; that is taken to
    be the database's own folder, as it is when Navidrome runs with its defaults. Tracks whose path leaves
    their library's folder are left out like missing ones.
    """

    def __init__(
        self, database: Path, *, music_root: Path | None = None, path_map: Mapping[int, Path] | None = None
    ) -> None:
        self.database = database
        self._folders_here = ({1: music_root} if music_root else {}) | dict(path_map or {})

    def pages(self, tell: Tell = tell_nobody) -> Iterator[list[LibraryTrack]]:
        """Yield the playable tracks in non-empty pages of at most ``PAGE_SIZE``, ordered by id.

        Each page is a query of its own, so Navidrome is never held up; a track that comes or goes meanwhile
        may be seen or not, but none is seen twice. Raises LibraryUnavailable.
        """
        seen, last = 0, b""

        def raise_if_stopped() -> None:
            tell(f"reading Navidrome's database: {seen:,} tracks so far")

        with self._reading(raise_if_stopped=raise_if_stopped) as database:
            has_missing = _has_missing(database)
            genre = GENRE if _has_genre(database) else "''"
            query = PAGE.format(present=PRESENT if has_missing else "", genre=genre)
            folders = self._folders(database)
            while rows := database.query(query, (last, PAGE_SIZE)):
                seen, last = seen + len(rows), rows[-1][0]
                if page := [track for row in rows if (track := _track(row, folders))]:
                    yield page

    def count(self) -> int:
        """Return how many tracks are not missing, also those outside their library. Raises LibraryUnavailable."""
        with self._reading() as database:
            ((count,),) = database.query(COUNT_PRESENT if _has_missing(database) else COUNT)
            return int(count)

    def holds(self, path_prefix: str, library_id: int | None = None) -> bool:
        """Return whether the path of a track that is not missing begins so. Raises LibraryUnavailable."""
        with self._reading() as database:
            query = BEGINNING.format(present=PRESENT if _has_missing(database) else "")
            return any(
                database.query(query, (stored, stored + LAST, number))
                for number, folder in self._folders(database).items()
                if library_id in (None, number)
                for stored in folder.stored(path_prefix)
            )

    def folders(self) -> dict[int, Path]:
        """Return the libraries' folders on this machine, ordered by library id. Raises LibraryUnavailable."""
        with self._reading() as database:
            return {number: Path(folder.root) for number, folder in self._folders(database).items()}

    def examples(self, count: int) -> dict[Path, list[str]]:
        """Return paths of tracks of each library, by its folder on this machine. Raises LibraryUnavailable."""
        with self._reading() as database:
            query = EXAMPLES.format(present=PRESENT if _has_missing(database) else "")
            return {
                Path(folder.root): [
                    resolved
                    for (path,) in database.query(query, (number, count))
                    if (resolved := folder.resolve(os.fsdecode(path or b"")))
                ]
                for number, folder in self._folders(database).items()
            }

    def libraries(self) -> dict[int, str]:
        """Return the libraries' names by id. Raises LibraryUnavailable."""
        with self._reading() as database:
            return {number: folder.name for number, folder in self._folders(database).items()}

    def last_scan(self) -> datetime | None:
        """Return when the last scan ended; None while one is in progress, and before the first.

        Before 0.55 Navidrome notes at the end when the scan began, and nothing while it lasts. Raises
        LibraryUnavailable.
        """
        with self._reading() as database:
            rows = database.query(SCANS if _has_missing(database) else SCANS_BEFORE_055)
        if any(_moment(started) for _, started in rows):
            return None
        return max((end for text, _ in rows if (end := _moment(text))), default=None)

    def present(self, ids: Collection[str]) -> dict[str, PresentTrack]:
        """Return those of these tracks that are in Navidrome now and not missing. Raises LibraryUnavailable."""
        with self._reading(LISTENER_SECONDS) as database:
            return present_tracks(database, ids)

    def deleted(self, tracks: Mapping[str, int]) -> set[str]:
        """Return those whose row is gone, while the folder of their library is there. Raises LibraryUnavailable.

        Navidrome keeps the rows of files that it misses, unless somebody tells it to delete them.
        """
        with self._reading() as database:
            there = {number for number, folder in self._folders(database).items() if _is_there(folder)}
            kept = existing_tracks(database, tracks)
        return {track_id for track_id, library_id in tracks.items() if library_id in there and track_id not in kept}

    def visible_to(self, user: str) -> frozenset[int] | None:
        """Return the libraries that a user, by id or name, may see; None before 0.58, which restricts nobody.

        An administrator sees all, somebody unknown what every user may see. Raises LibraryUnavailable.
        """
        with self._reading(LISTENER_SECONDS) as database:
            return visible_to(database, user)

    def in_playlists(self, playlist_ids: Collection[str]) -> set[str]:
        """Return the ids of the tracks in these playlists. Raises LibraryUnavailable."""
        with self._reading(LISTENER_SECONDS) as database:
            return in_playlists(database, playlist_ids)

    def of_album(self, album_id: str) -> set[str]:
        """Return the ids of an album's tracks. Raises LibraryUnavailable."""
        with self._reading(LISTENER_SECONDS) as database:
            return of_album(database, album_id)

    def of_artist(self, artist_id: str) -> set[str]:
        """Return the ids of the tracks that an artist plays on. Raises LibraryUnavailable."""
        with self._reading(LISTENER_SECONDS) as database:
            return of_artist(database, artist_id)

    def artist_names(self, artist_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of these artists that there are, by id. Raises LibraryUnavailable."""
        with self._reading(LISTENER_SECONDS) as database:
            return artist_names(database, artist_ids)

    def snapshot(self, target: Path) -> None:
        """Write what is read here to the new database ``target``. Raises LibraryUnavailable."""
        late = sqlite3.OperationalError(f"it was not copied within {SNAPSHOT_SECONDS:.0f} s")
        with self._reading(raise_if_stopped=within(SNAPSHOT_SECONDS, late)) as database:
            _has_missing(database)  # which knows whether it is Navidrome's
            extract(database, target)

    def _folders(self, database: ForeignDatabase) -> dict[int, LibraryFolder]:
        working_folder = str(self.database.absolute().parent)
        # Before 0.55 paths were stored as the scanner opened them: with a relative MusicFolder they begin
        # with its name and are relative to the working folder.
        scanner_bases = () if _has_missing(database) else (working_folder,)
        folders = {}
        for number, name, path in database.query("SELECT id, name, CAST(path AS BLOB) FROM library ORDER BY id"):
            stated = os.path.normpath(Path(working_folder, os.fsdecode(path)))
            root = str(self._folders_here.get(number, stated))
            folders[number] = LibraryFolder(clean_text(name), stated, root, (*scanner_bases, stated))
        return folders

    @contextmanager
    def _reading(
        self, busy_seconds: float = BUSY_SECONDS, raise_if_stopped: RaiseIfStopped | None = None
    ) -> Iterator[ForeignDatabase]:
        """Open the database, and say what is wrong with it in words that its owner understands."""
        database = ForeignDatabase(
            self.database.absolute(), busy_seconds=busy_seconds, raise_if_stopped=raise_if_stopped
        )
        try:
            yield database
        except FileNotFoundError as error:
            message = f"NAVIDROME_DB_PATH is {self.database}, which does not exist."
            raise LibraryUnavailable(message) from error
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            message = f"Navidrome's database {self.database} (NAVIDROME_DB_PATH) cannot be read: {reason}."
            raise LibraryUnavailable(message) from error
        finally:
            database.close()


def _is_there(folder: LibraryFolder) -> bool:
    return look_at(Path(folder.root), [], ANSWER_SECONDS).is_there


def _moment(text: str | None) -> datetime | None:
    """Navidrome's text for a moment, UTC where it names no zone; years 0 and 1 mean never."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return None if moment.year == 1 else moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _has_missing(database: ForeignDatabase) -> bool:
    """Whether rows say if their file is missing, and paths are relative: since 0.55."""
    tables = {name for (name,) in database.query("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"media_file", "library"} <= tables:
        raise LibraryUnavailable(
            f"NAVIDROME_DB_PATH is {database.path}, which is no database of Navidrome 0.54 or later."
        )
    return "missing" in _columns(database)


def _has_genre(database: ForeignDatabase) -> bool:
    """Whether rows name a genre: Navidrome's do, a snapshot of an earlier version of ours does not."""
    return "genre" in _columns(database)


def _columns(database: ForeignDatabase) -> set[str]:
    return {row[1] for row in database.query("PRAGMA table_info(media_file)")}


def _track(row: Row, folders: Mapping[int, LibraryFolder]) -> LibraryTrack | None:
    track_id, library_id, path, title, artist, album, duration, size, updated_at, genre = row
    folder = folders.get(library_id)
    resolved = folder.resolve(os.fsdecode(path or b"")) if folder else None
    if resolved is None:
        logger.warning("Track %s is left out: %r is not inside library %s.", track_id, path, library_id)
        return None
    return LibraryTrack(
        id=storable_id(track_id),
        library_id=library_id,
        path=storable(os.fsencode(resolved)),
        title=short_text(title),
        artist=short_text(artist),
        album=short_text(album),
        duration=finite(duration),
        size=int(min(finite(size), MOST_BYTES)),
        mtime=clean_text(updated_at)[:MTIME_LENGTH],
        genre=short_text(genre),
    )
