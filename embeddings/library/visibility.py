"""What a recommendation asks of Navidrome's database: who may see what, and what is there at this moment."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator

from embeddings.library.base import PresentTrack
from embeddings.library.sqlite import ForeignDatabase
from navembed_site.names import clean_text

IDS_PER_QUERY = 900  # older SQLite takes 999 parameters

# Their columns since 0.54; the others came later.
TRACKS = "SELECT id, library_id, title, artist, artist_id{more} FROM media_file WHERE id IN ({marks}){present}"
EXISTING = "SELECT id FROM media_file WHERE id IN ({marks})"
ARTISTS = "SELECT media_file_id, artist_id FROM media_file_artists WHERE media_file_id IN ({marks})"
PLAYLISTS = "SELECT DISTINCT media_file_id FROM playlist_tracks WHERE playlist_id IN ({marks})"
ALBUM = "SELECT id FROM media_file WHERE album_id = ?"
ARTIST = "SELECT media_file_id, role IN ('artist', 'albumartist') FROM media_file_artists WHERE artist_id = ?"
ARTIST_BEFORE_055 = "SELECT id, 1 FROM media_file WHERE artist_id = ?"
ARTIST_NAMES = "SELECT id, name FROM artist WHERE id IN ({marks})"
USER = "SELECT id, is_admin FROM user WHERE id = ?"
NAMED = "SELECT id, is_admin FROM user WHERE user_name = ? COLLATE NOCASE"
GRANTED = "SELECT library_id FROM user_library WHERE user_id = ?"
GRANTED_TO_ALL = """
    SELECT l.id FROM library l WHERE NOT EXISTS (
        SELECT 1 FROM user u WHERE NOT u.is_admin AND NOT EXISTS (
            SELECT 1 FROM user_library ul WHERE ul.user_id = u.id AND ul.library_id = l.id))"""


def present_tracks(database: ForeignDatabase, ids: Collection[str]) -> dict[str, PresentTrack]:
    """Return those of these tracks that are there and not missing, by id. Raises as ``ForeignDatabase.query``."""
    columns = {row[1] for row in database.query("PRAGMA table_info(media_file)")}
    extra = [name for name in ("album_artist_id", "participants") if name in columns]
    more = "".join(f", {name}" for name in extra)
    present = " AND missing IS NOT 1" if "missing" in columns else ""
    taking_part = _artists(database, ids) if "missing" in columns else {}
    found = {}
    for marks, some in _slices(ids):
        for row in database.query(TRACKS.format(more=more, marks=marks, present=present), some):
            track_id, library_id, title, artist, artist_id = row[:5]
            others = dict(zip(extra, row[5:], strict=True))
            named = {artist_id, others.get("album_artist_id"), *_named(others.get("participants"))}
            participants = frozenset(name for name in named | taking_part.get(track_id, set()) if name)
            found[track_id] = PresentTrack(
                library_id, clean_text(title or ""), clean_text(artist or ""), artist_id or "", participants
            )
    return found


def existing_tracks(database: ForeignDatabase, ids: Collection[str]) -> set[str]:
    """Return those of these tracks that have a row, missing or not. Raises as ``ForeignDatabase.query``."""
    found: set[str] = set()
    for marks, some in _slices(ids):
        found.update(row[0] for row in database.query(EXISTING.format(marks=marks), some))
    return found


def visible_to(database: ForeignDatabase, user: str) -> frozenset[int] | None:
    """Return the libraries that a user, by id or name, may see; None when Navidrome restricts nobody.

    Raises as ``query``.
    """
    if not database.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'user_library'"):
        return None
    found = database.query(USER, (user,))
    if not found and any(row[1] == "user_name" for row in database.query("PRAGMA table_info(user)")):
        found = database.query(NAMED, (user,))  # a snapshot has no names
    if found and found[0][1]:
        return None
    rows = database.query(GRANTED, (found[0][0],)) if found else database.query(GRANTED_TO_ALL)
    return frozenset(number for (number,) in rows)


def in_playlists(database: ForeignDatabase, playlist_ids: Collection[str]) -> set[str]:
    """Return the ids of the tracks in these playlists. Raises as ``ForeignDatabase.query``."""
    found: set[str] = set()
    for marks, some in _slices(playlist_ids):
        found.update(row[0] for row in database.query(PLAYLISTS.format(marks=marks), some))
    return found


def of_album(database: ForeignDatabase, album_id: str) -> set[str]:
    """Return the ids of an album's tracks. Raises as ``ForeignDatabase.query``."""
    return {row[0] for row in database.query(ALBUM, (album_id,))}


def of_artist(database: ForeignDatabase, artist_id: str) -> set[str]:
    """Return the ids of the tracks that an artist plays on; of one who plays on none, those with any other part in.

    Raises as ``ForeignDatabase.query``.
    """
    has_parts = database.query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'media_file_artists'")
    rows = database.query(ARTIST if has_parts else ARTIST_BEFORE_055, (artist_id,))
    return {track for track, plays in rows if plays} or {track for track, _ in rows}


def artist_names(database: ForeignDatabase, artist_ids: Collection[str]) -> dict[str, str]:
    """Return the names of those of these artists that there are, by id. Raises as ``ForeignDatabase.query``."""
    return {
        row[0]: clean_text(row[1] or "")
        for marks, some in _slices(artist_ids)
        for row in database.query(ARTIST_NAMES.format(marks=marks), some)
    }


def _artists(database: ForeignDatabase, ids: Collection[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for marks, some in _slices(ids):
        for track_id, artist_id in database.query(ARTISTS.format(marks=marks), some):
            found[track_id].add(artist_id)
    return found


def _named(participants: str | None) -> Iterator[str]:
    """Yield the artists' ids in Navidrome's JSON of roles; of one that is damaged none."""
    try:
        roles = json.loads(participants or "{}")
        yield from [person["id"] for people in roles.values() for person in people]
    except (ValueError, TypeError, KeyError, AttributeError):
        return


def _slices(ids: Collection[str]) -> Iterator[tuple[str, list[str]]]:
    ordered = sorted(set(ids))
    for start in range(0, len(ordered), IDS_PER_QUERY):
        some = ordered[start : start + IDS_PER_QUERY]
        yield ", ".join("?" * len(some)), some
