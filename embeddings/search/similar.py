"""Music like a track, an album or an artist of the library."""

from __future__ import annotations

import logging
from dataclasses import replace

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.models import Track
from embeddings.search.query import Answer, Query, Seed
from embeddings.search.recommend import recommend

logger = logging.getLogger(__name__)

SECONDS = 3.5  # the plugin gives up after 4.5, and what the library is asked before and after takes time, too
TRACK, ALBUM, ARTIST = KINDS = ("track", "album", "artist")


def similar(kind: str, name: str, query: Query, *, seconds: float = SECONDS) -> Answer:
    """Return tracks like the track, album or artist ``name``; none for one that is not known.

    An album or artist is searched by the centroid of its tracks, or by several when they sound different. Its own
    tracks do not come for a track or an album, but do for an artist.
    """
    tracks = [name] if kind == TRACK else sorted(tracks_of(kind, name))
    if not tracks:
        return Answer([], [f"There is no {kind} {name}."])
    seeds = [Seed(track_id) for track_id in tracks]
    return recommend(
        replace(query, seeds=seeds, seeds_are_one=kind != TRACK, seeds_may_come=kind == ARTIST), seconds=seconds
    )


def tracks_of(kind: str, name: str) -> set[str]:
    """Return the ids of the tracks of an album or an artist: by its id, an artist also by the name."""
    try:
        library = open_library()
        found = library.of_album(name) if kind == ALBUM else library.of_artist(name)
    except LibraryUnavailable as error:
        logger.warning("Which tracks %s %s has is not known now: %s", kind, name, error)
        found = set()
    if not found and kind == ARTIST:
        found = set(Track.objects.filter(artist=name, playable=True).values_list("pk", flat=True))
    return found
