"""Brings our table of tracks up to date with the library, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from operator import attrgetter

from django.db import connection, transaction
from django.db.models import Max
from django.db.models.functions import Left
from django.utils import timezone

from embeddings.library import Library, LibraryTrack, PresentTrack, open_library
from embeddings.library.away import look
from embeddings.library.base import PAGE_SIZE, Tell, tell_nobody
from embeddings.library.folders import is_place_there
from embeddings.library.places import Places, keep_places, places
from embeddings.models import Track
from navembed_site.names import LONGEST_TEXT
from navembed_site.process.slow_calls import RaiseIfStopped, patiently

FIELDS = ("library_id", "path", "title", "artist", "album", "duration", "size", "mtime", "genre")
TEXTS = ("title", "artist", "album")
# A statement of our own takes a tenth of `bulk_create`'s time.
UPSERT = f"""
    INSERT INTO embeddings_track (id, {", ".join(FIELDS)}, playable, scan)
    VALUES (%s, {", ".join("%s" for _ in FIELDS)}, TRUE, %s)
    ON CONFLICT (id) DO UPDATE
    SET {", ".join(f"{name} = excluded.{name}" for name in (*FIELDS, "playable", "scan"))}, away_since = NULL"""

SCAN = "navembed_scan"
SCANNED = ("library_id", "path", "duration", "size", "mtime")
MAKE = f"""
    CREATE TEMPORARY TABLE {SCAN} AS
    SELECT id, {", ".join(SCANNED)}, playable FROM embeddings_track WHERE 1 = 0"""
ADD = f"INSERT INTO {SCAN} VALUES (%s, {', '.join('%s' for _ in SCANNED)}, TRUE)"
ADD_GONE = f"""
    INSERT INTO {SCAN} SELECT id, {", ".join(SCANNED)}, FALSE FROM embeddings_track gone
    WHERE NOT EXISTS (SELECT 1 FROM {SCAN} seen WHERE seen.id = gone.id)"""


def sync_tracks(*, raise_if_stopped: RaiseIfStopped = lambda: None, tell: Tell = tell_nobody) -> int:
    """Read the whole library into ``Track``; returns how many tracks are playable. Raises LibraryUnavailable.

    Tracks that the library no longer shows stay, marked as not playable: their vectors may be wanted again. What is
    merely not there is away since now; what has been deleted from the library is not.
    ``raise_if_stopped`` is called in every transaction that writes: two scans that overlap would mark tracks wrongly.
    ``tell`` is called about once a second, also while storage is slow.
    """
    scan = (Track.objects.aggregate(last=Max("scan"))["last"] or 0) + 1
    values = attrgetter("id", *FIELDS)
    count = 0
    library, where = open_library(), keep_places()
    for page in library.pages(tell):
        with transaction.atomic(), connection.cursor() as cursor:
            raise_if_stopped()
            cursor.executemany(UPSERT, [(*values(track), scan) for track in _kept(page, where)])
        count += len(page)
    with transaction.atomic():
        raise_if_stopped()
        look(now := timezone.now())
        Track.objects.filter(playable=True, scan__lt=scan).update(playable=False, away_since=now)
    _tell_deleted(library, where, raise_if_stopped, lambda: tell("looking which tracks have been deleted"))
    return count


def _kept(page: list[LibraryTrack], where: Places) -> list[LibraryTrack]:
    """Return a page with the paths that our table keeps, where this host sees the music elsewhere."""
    if where.here == where.kept:
        return page
    return [replace(track, path=where.path_kept(track.path)) for track in page]


def _tell_deleted(library: Library, where: Places, raise_if_stopped: RaiseIfStopped, tell: Callable[[], None]) -> None:
    """Tell tracks that have been deleted from those that are away, whose rows Navidrome may have purged."""
    away = Track.objects.filter(playable=False, away_since__isnull=False).order_by("pk")
    last = ""
    while page := list(away.filter(pk__gt=last).only("library_id", "path")[:PAGE_SIZE]):
        last = page[-1].pk
        if deleted := patiently(partial(_deleted, library, where, page), tell):
            with transaction.atomic():
                raise_if_stopped()
                Track.objects.filter(pk__in=deleted, playable=False).update(away_since=None)


def _deleted(library: Library, where: Places, tracks: Sequence[Track]) -> list[str]:
    """Return the ids of those that have been deleted; it asks the storage, but not our database."""
    gone = library.deleted({track.pk: track.library_id for track in tracks})
    return [track.pk for track in tracks if track.pk in gone and is_place_there(where.file(track.path))]


@contextmanager
def scanned(tell: Tell = tell_nobody) -> Iterator[str]:
    """Yield the name of a table like ``Track``'s as ``sync_tracks`` would leave it; ours stays as it is.

    It belongs to this connection, has no texts but paths, and goes at the end. Raises LibraryUnavailable.
    """
    values = attrgetter("id", *SCANNED)
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {SCAN}")
        cursor.execute(MAKE)
        try:
            where = places()
            for page in open_library().pages(tell):
                cursor.executemany(ADD, [values(track) for track in _kept(page, where)])
            cursor.execute(f"CREATE UNIQUE INDEX {SCAN}_id ON {SCAN} (id)")
            cursor.execute(ADD_GONE)
            cursor.execute(f"CREATE INDEX {SCAN}_gone ON {SCAN} (size) WHERE NOT playable")
            cursor.execute(f"ANALYZE {SCAN}")
            yield SCAN
        finally:
            cursor.execute(f"DROP TABLE IF EXISTS {SCAN}")


def as_scanned(ids: Collection[str]) -> dict[str, LibraryTrack]:
    """Return what scans have seen of these tracks; of those that are away, too."""
    texts = [Left(name, LONGEST_TEXT) for name in TEXTS]
    rows = Track.objects.filter(pk__in=ids).values_list(
        "pk", "library_id", "path", *texts, "duration", "size", "mtime", Left("genre", LONGEST_TEXT)
    )
    return {row[0]: LibraryTrack(*row) for row in rows}


def known_tracks(ids: Collection[str]) -> dict[str, PresentTrack]:
    """Return what the last scan saw of these tracks, those that can be played; without ids of artists."""
    rows = Track.objects.filter(pk__in=ids, playable=True)
    return {
        row.pk: PresentTrack(row.library_id, row.title, row.artist, artist_id="", participants=frozenset())
        for row in rows
    }
