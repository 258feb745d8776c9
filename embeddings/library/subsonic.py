"""A music server's library, read by the Subsonic API: for a machine that does not have Navidrome's database."""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from embeddings.errors import LibraryUnavailable, ServerRefused, ServerUnavailable
from embeddings.library.base import PAGE_SIZE, LibraryTrack, PresentTrack, Tell, finite, tell_nobody
from embeddings.library.listing import Draft, Folder, Listing, Person, Song
from embeddings.library.reader import ANSWER_SECONDS, look_at
from embeddings.models import Listener
from embeddings.subsonic import NOT_FOUND, SECONDS, Subsonic, listed, subsonic
from navembed_site.names import clean_text, short_text, storable

logger = logging.getLogger(__name__)

SONGS_A_PAGE = 500  # what every server gives
EXAMPLES = 8
MOST_PARTS = 12  # of a path above the library's folder
MOST_BYTES = 2**53
MTIME_LENGTH = 64
TOLD_FOR = timedelta(days=1)  # what the plugin tells once an hour
LISTENER_SECONDS = 1.0  # that somebody who waits for music waits for the server

PAGE = """
    SELECT id, library_id, path, title, artist, album, duration, size, mtime, genre FROM track
    WHERE id > ? ORDER BY id LIMIT ?"""
PRESENT = """
    SELECT id, library_id, title, artist, artist_id,
        (SELECT json_group_array(artist_id) FROM part WHERE track_id = track.id)
    FROM track WHERE id IN (SELECT value FROM json_each(?))"""
NAMES = "SELECT id, name FROM artist WHERE id IN (SELECT value FROM json_each(?))"


class SubsonicLibrary:
    """Tracks of the server in the settings, whose list is kept in ``listing`` until the server has scanned again.

    ``path_map[id]``, else ``music_root``, says where the music of a library lies on this machine. With neither it does
    not: then paths lie below a folder that there need not be, and ``fetching`` gets the files.
    """

    def __init__(
        self, listing: Path, *, music_root: Path | None = None, path_map: Mapping[int, Path] | None = None
    ) -> None:
        self._listing = Listing(listing)
        self._music_root = music_root
        self._path_map = dict(path_map or {})
        self._is_here = bool(music_root or path_map)

    def pages(self, tell: Tell = tell_nobody) -> Iterator[list[LibraryTrack]]:
        """Yield the tracks in non-empty pages, ordered by id. Raises LibraryUnavailable.

        The list is read anew only when the server has scanned since; while it scans, it cannot be read.
        """
        self._read_again(tell)
        folders, last = self._listing.folders(), ""
        while rows := self._listing.ask(PAGE, (last, PAGE_SIZE)):
            last = rows[-1][0]
            if page := [track for row in rows if (track := self._track(row, folders))]:
                yield page

    def count(self) -> int:
        """Return how many tracks the list has; before it was first read, how many the server counts."""
        if self._listing.is_there:
            return int(self._listing.ask("SELECT COUNT(*) FROM track")[0][0])
        with asking() as server:
            return int(_scan_status(server).get("count", 0))

    def holds(self, path_prefix: str, library_id: int | None = None) -> bool:
        """Return whether a track's path begins so. Raises LibraryUnavailable."""
        return any(
            self._listing.ask(
                "SELECT 1 FROM track WHERE library_id = ? AND substr(path, 1, ?) = ? LIMIT 1", (number, len(told), told)
            )
            for number, folder in self._listing.folders().items()
            if library_id in (None, number) and (told := self._told(path_prefix, number, folder)) is not None
        )

    def folders(self) -> dict[int, Path]:
        """Return the libraries' folders on this machine. Raises LibraryUnavailable."""
        return {number: self._root(number) for number in self.libraries()}

    def examples(self, count: int) -> dict[Path, list[str]]:
        """Return the paths of so many tracks of each library that is on this machine. Raises LibraryUnavailable."""
        found: dict[Path, list[str]] = {}
        for number, folder in self._listing.folders().items() if self._is_here else ():
            rows = self._listing.ask("SELECT path FROM track WHERE library_id = ? LIMIT ?", (number, count))
            resolved = [self._resolved(path, number, folder) for (path,) in rows]
            found[self._root(number)] = [path for path in resolved if path]
        return found

    def libraries(self) -> dict[int, str]:
        """Return the names of the server's libraries by id. Raises LibraryUnavailable."""
        if self._listing.is_there:
            return {number: folder.name for number, folder in self._listing.folders().items()}
        with asking() as server:
            return _libraries(server)

    def last_scan(self) -> datetime | None:
        """Return when the server's last scan ended; None during one, or if it does not tell.

        Raises LibraryUnavailable.
        """
        with asking() as server:
            status = _scan_status(server)
        return None if status.get("scanning") else _moment(status.get("lastScan"))

    def present(self, ids: Collection[str]) -> dict[str, PresentTrack]:
        """Return what the list has of these tracks. Raises LibraryUnavailable."""
        rows = self._listing.ask(PRESENT, [json.dumps(list(ids))])
        return {
            track_id: PresentTrack(number, title, artist, artist_id, frozenset(json.loads(people)))
            for track_id, number, title, artist, artist_id, people in rows
        }

    def deleted(self, tracks: Mapping[str, int]) -> set[str]:
        """Return nothing: what has been deleted looks to us like what the server misses."""
        return set()

    def visible_to(self, user: str) -> frozenset[int] | None:
        """Return the libraries that a user, by name, may see; our own account sees all that we list.

        Navidrome tells it to nobody but the user; then what the plugin has told counts. Raises LibraryUnavailable.
        """
        if user.lower() == settings.SUBSONIC_USER.lower():
            return None
        try:
            with asking(LISTENER_SECONDS) as server:
                told = server.ask("getUser", username=user).get("user", {})
        except LibraryUnavailable:
            known = Listener.objects.filter(user=user, told_at__gt=timezone.now() - TOLD_FOR).first()
            if known is None:
                raise
            return frozenset(known.libraries)
        return frozenset(_number(each) for each in told.get("folder", ()))

    def in_playlists(self, playlist_ids: Collection[str]) -> set[str]:
        """Return the ids of the tracks in these playlists; unknown ones are empty. Raises LibraryUnavailable."""
        found: set[str] = set()
        with asking(LISTENER_SECONDS) as server:
            for playlist_id in playlist_ids:
                try:
                    answer = server.ask("getPlaylist", id=playlist_id)
                except ServerRefused as refusal:
                    if refusal.code != NOT_FOUND:
                        raise
                    continue
                found.update(str(song.get("id")) for song in listed(answer, "playlist", "entry"))
        return found

    def of_album(self, album_id: str) -> set[str]:
        """Return the ids of an album's tracks. Raises LibraryUnavailable."""
        return {row[0] for row in self._listing.ask("SELECT id FROM track WHERE album_id = ?", [album_id])}

    def of_artist(self, artist_id: str) -> set[str]:
        """Return the ids of the tracks that an artist plays on; of one who plays on none, those with any other part in.

        Raises LibraryUnavailable.
        """
        rows = self._listing.ask("SELECT track_id, plays FROM part WHERE artist_id = ?", [artist_id])
        return {track for track, plays in rows if plays} or {track for track, _ in rows}

    def artist_names(self, artist_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of these artists that there are, by id. Raises LibraryUnavailable."""
        return dict(self._listing.ask(NAMES, [json.dumps(list(artist_ids))]))

    # Reading the list

    def _read_again(self, tell: Tell) -> None:
        with asking() as server:
            scan = _last_scan(server)
            source = " ".join(map(str, (server.source, self._music_root, self._path_map)))
            if self._listing.is_of(source, scan):
                return
            with self._listing.renewed(source, scan) as draft:
                libraries = _libraries(server)
                for number, name in libraries.items():
                    draft.add_library(number, name)
                    _add_songs(server, draft, number, tell)
                    draft.skip(number, self._skipped(draft, number))
                if _scan_status(server).get("count") and not any(draft.examples(each, 1) for each in libraries):
                    raise LibraryUnavailable(
                        "The music server has tracks, and lists none of them when asked for all (search3 without "
                        f"words): either {server.user} may see none of its libraries, or this server cannot be read."
                    )
                if _last_scan(server) != scan:
                    raise LibraryUnavailable("The music server has scanned while its list was read; it is read again.")

    def _skipped(self, draft: Draft, number: int) -> int:
        """Return how many parts of the server's paths lie above the library's folder on this machine.

        The server may see its music elsewhere; what is there of some files tells. Raises LibraryUnavailable.
        """
        root, told = self._root(number), draft.examples(number, EXAMPLES)
        if not told or not self._is_here:
            return 0
        candidates = [(n, _below(root, path, n)) for path in told for n in range(min(MOST_PARTS, len(_parts(path))))]
        paths = [(n, path) for n, path in candidates if path]
        looked = look_at(root, [path for _, path in paths], ANSWER_SECONDS)
        if not looked.is_there:
            raise LibraryUnavailable(f"the music folder {root} is empty or not mounted")
        found = [n for (n, _), problem in zip(paths, looked.problems, strict=True) if problem is None]
        if not found:
            raise LibraryUnavailable(
                f"none of the files that the music server names is in {root}, for example {told[0]}: in Navidrome, "
                "switch on “Report Real Path” of the player navembed (Settings, Players)"
            )
        return max(set(found), key=found.count)

    # Paths

    def _root(self, number: int) -> Path:
        root = self._path_map.get(number, self._music_root)
        if root is None and self._is_here:
            raise LibraryUnavailable(f"NAVEMBED_PATH_MAP does not say where the music of library {number} lies here.")
        return root or self._listing.file.parent / "music" / str(number)

    def _resolved(self, told: str, number: int, folder: Folder) -> str | None:
        return _below(self._root(number), told, folder.skipped)

    def _told(self, path_prefix: str, number: int, folder: Folder) -> str | None:
        """Return how the server's paths begin that begin with ``path_prefix`` here; None for what is elsewhere."""
        root = f"{str(self._root(number)).rstrip('/')}/"
        if root.startswith(path_prefix):
            return ""
        if not path_prefix.startswith(root):
            return None
        rows = self._listing.ask("SELECT path FROM track WHERE library_id = ? LIMIT 1", (number,))
        above = _above(rows[0][0], folder.skipped) if rows else ""
        return above + path_prefix.removeprefix(root)

    def _track(self, row: tuple[Any, ...], folders: Mapping[int, Folder]) -> LibraryTrack | None:
        track_id, number, told, *texts = row
        path = self._resolved(told, number, folders[number])
        if path is None:
            logger.warning("Track %s is left out: %r is not inside library %s.", track_id, told, number)
            return None
        return LibraryTrack(track_id, number, storable(os.fsencode(path)), *texts)


@contextmanager
def asking(seconds: float = SECONDS) -> Iterator[Subsonic]:
    """Yield the server. Raises LibraryUnavailable when it cannot be asked."""
    try:
        with subsonic(seconds) as server:
            yield server
    except (ServerUnavailable, ServerRefused) as error:
        raise LibraryUnavailable(str(error)) from error


def _scan_status(server: Subsonic) -> dict[str, Any]:
    found = server.ask("getScanStatus").get("scanStatus")
    return found if isinstance(found, dict) else {}


def _last_scan(server: Subsonic) -> str:
    """Return which scan was the last one; empty where the server does not tell.

    Raises LibraryUnavailable during one.
    """
    status = _scan_status(server)
    if status.get("scanning"):
        raise LibraryUnavailable("The music server is scanning; its list of tracks is read when it has finished.")
    return str(status.get("lastScan") or "")


def _libraries(server: Subsonic) -> dict[int, str]:
    folders = listed(server.ask("getMusicFolders"), "musicFolders", "musicFolder")
    return {_number(folder["id"]): short_text(folder.get("name")) for folder in folders if "id" in folder}


def _number(folder_id: object) -> int:
    """Return the number of a library; of a server that names them by words one made of those."""
    text = str(folder_id)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else zlib.crc32(text.encode()) >> 1


def _add_songs(server: Subsonic, draft: Draft, number: int, tell: Tell) -> None:
    """Add a library's tracks to the list, a page at a time. Raises LibraryUnavailable when the server lists none."""
    offset = 0
    while True:
        tell(f"reading the music server's list: {offset:,} tracks so far")
        answer = server.ask(
            "search3", query="", artistCount=0, albumCount=0, songCount=SONGS_A_PAGE, songOffset=offset,
            musicFolderId=number,
        )  # fmt: skip
        songs = listed(answer, "searchResult3", "song")
        offset += len(songs)
        # A server that gives the same page for ever has no more, either.
        if not draft.add([found for song in songs if (found := _song(song, number))]):
            return


def _song(song: dict[str, Any], number: int) -> Song | None:
    """Return a song as the list has it; None for what is no music, or has no id that can be kept."""
    track_id = str(song.get("id") or "")
    if not track_id or clean_text(track_id) != track_id or song.get("isDir") or song.get("isVideo"):
        return None
    row = {
        "id": track_id,
        "library_id": number,
        "path": clean_text(song.get("path") or f"{track_id}.{song.get('suffix') or 'bin'}"),
        "title": short_text(song.get("title")),
        "artist": short_text(song.get("displayArtist") or song.get("artist")),
        "album": short_text(song.get("album")),
        "duration": finite(song.get("duration")),
        "size": int(min(finite(song.get("size")), MOST_BYTES)),
        "mtime": clean_text(song.get("created"))[:MTIME_LENGTH],
        "genre": short_text(song.get("genre")),
        "artist_id": clean_text(song.get("artistId")),
        "album_id": clean_text(song.get("albumId")),
    }
    return Song(row, [person for person in _people(song) if person.id])


def _people(song: dict[str, Any]) -> Iterator[Person]:
    """Yield everybody who takes part, as far as the server tells."""
    yield _person({"id": song.get("artistId"), "name": song.get("artist")}, plays=True)
    for artist in (*listed(song, "artists"), *listed(song, "albumArtists")):
        yield _person(artist, plays=True)
    for contributor in listed(song, "contributors"):
        for artist in listed(contributor, "artist"):
            yield _person(artist, plays=False)


def _person(told: Mapping[str, Any], *, plays: bool) -> Person:
    return Person(clean_text(told.get("id")), short_text(told.get("name")), plays)


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text or ""))
    except ValueError:
        return None
    return None if moment.year == 1 else moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _parts(told: str) -> list[str]:
    return told.strip("/").split("/")


def _above(told: str, skipped: int) -> str:
    """Return the beginning of a path as the server tells it, as far as its library's folder reaches."""
    return ("/" if told.startswith("/") else "") + "".join(f"{part}/" for part in _parts(told)[:skipped])


def _below(root: Path, told: str, skipped: int) -> str | None:
    """Return where a file is on this machine; None when its path leads out of the library's folder."""
    path = os.path.normpath("/".join(_parts(told)[skipped:]))
    return None if path.startswith(("..", "/")) or path == "." else f"{str(root).rstrip('/')}/{path}"
