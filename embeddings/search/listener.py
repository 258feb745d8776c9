"""What a listener may see, by what the library says now."""

from __future__ import annotations

import logging
from collections.abc import Collection

from embeddings.errors import LibraryUnavailable
from embeddings.library import PresentTrack, open_library
from embeddings.library.sync import known_tracks
from embeddings.models import Track
from embeddings.search.diversity import recording_of
from embeddings.search.query import Query

logger = logging.getLogger(__name__)


def visible_libraries(query: Query, warnings: list[str]) -> frozenset[int] | None:
    """Return the libraries that the user may see; None when all.

    Who may see what is not known while Navidrome's database is away: with several libraries nobody sees any.
    """
    if not query.user_id:
        return None
    try:
        return open_library().visible_to(query.user_id)
    except LibraryUnavailable as error:
        if len(_known_libraries()) <= 1:
            return None
        logger.warning("Which libraries %r may see is not known: %s", query.user_id, error)
        warnings.append("Which libraries you may see is not known now, so nothing is shown. Try again later.")
        return frozenset()


def allowed_libraries(query: Query, visible: frozenset[int] | None, warnings: list[str]) -> frozenset[int] | None:
    """Return the libraries that the query and its user's rights leave; None when all."""
    if not query.library_ids:
        return visible
    wanted = frozenset(query.library_ids)
    there = _known_libraries() if visible is None else _known_libraries() & visible
    if absent := wanted - there:
        names = ", ".join(map(str, sorted(absent)))
        warnings.append(f"There is nothing for you in library {names}.")
    return wanted & there


def _known_libraries() -> frozenset[int]:
    return frozenset(Track.objects.order_by().values_list("library_id", flat=True).distinct())


def excluded_tracks(query: Query, warnings: list[str]) -> set[str]:
    """Return what must not come: seeds, what is excluded by id, and what is in excluded playlists."""
    seeds = () if query.seeds_may_come else query.seeds
    excluded = {seed.track_id for seed in seeds} | set(query.exclude_track_ids)
    if query.exclude_playlist_ids:
        try:
            excluded |= open_library().in_playlists(query.exclude_playlist_ids)
        except LibraryUnavailable as error:
            logger.warning("The playlists to leave out cannot be read: %s", error)
            warnings.append("The playlists to leave out cannot be read now, so their tracks may come.")
    return excluded


def seed_recordings(query: Query) -> set[tuple[str, str] | None]:
    """Return the recordings of which no other file should come, by the last scan: those of the seeds."""
    if query.seeds_may_come:
        return set()
    seeds = {seed.track_id for seed in query.seeds}
    return {recording_of(*names) for names in Track.objects.filter(pk__in=seeds).values_list("title", "artist")}


def tracks_too_long(query: Query, track_ids: Collection[str]) -> set[str]:
    """Return those that are longer than the query wants, as the library declares their length."""
    if not query.max_seconds:
        return set()
    longer = Track.objects.filter(pk__in=track_ids, duration__gt=query.max_seconds)
    return set(longer.values_list("pk", flat=True))


def present_tracks(
    track_ids: Collection[str], warnings: list[str], libraries: Collection[int] | None = None
) -> dict[str, PresentTrack]:
    """Return those that the library has now, in these libraries or in any; when it cannot be read, by the last scan."""
    tracks = _present_tracks(track_ids, warnings)
    return {key: each for key, each in tracks.items() if libraries is None or each.library_id in libraries}


def _present_tracks(track_ids: Collection[str], warnings: list[str]) -> dict[str, PresentTrack]:
    try:
        return open_library().present(track_ids)
    except LibraryUnavailable as error:
        logger.warning("What the last scan saw is taken for what is there: %s", error)
        warnings.append("Some tracks may have gone since the last scan, and disliked artists do not count now.")
        return known_tracks(track_ids)
