"""Artists whose music is like that of an artist."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.search.diversity import artist_of
from embeddings.search.listener import present_tracks
from embeddings.search.query import Query, Seed
from embeddings.search.recommend import recommend
from embeddings.search.seeds import DIGITS
from embeddings.search.similar import ARTIST, SECONDS, tracks_of

logger = logging.getLogger(__name__)

MOST_TRACKS = 300  # among which artists are looked for
PER_ARTIST = 10
BEST = 3  # tracks of an artist, which tell how like he is
CHANCE = 0.5  # the score of a track that was not found


class SimilarArtist(NamedTuple):
    """An artist, by the library's id if there is one, and how like he is, 0 to 1; his tracks that are, best first."""

    id: str
    name: str
    score: float
    track_ids: list[str]


@dataclass(frozen=True)
class Artists:
    """Artists, best first; and the tracks of the one that they are like."""

    artists: list[SimilarArtist]
    own: list[str]
    warnings: list[str]


def similar_artists(name: str, query: Query, *, seconds: float = SECONDS) -> Artists:
    """Return artists like the one of this id or name; none for one that is not known.

    An artist's score is the mean of his best three tracks: one track that happens to fit does not make him similar.
    """
    own = sorted(tracks_of(ARTIST, name))
    if not own:
        return Artists([], [], [f"There is no artist {name}."])
    wanted = replace(query, limit=MOST_TRACKS, per_artist=PER_ARTIST, seeds=[Seed(i) for i in own], seeds_are_one=True)
    answer = recommend(wanted, seconds=seconds)
    scores = {each.track_id: each.score for each in answer.tracks}
    tracks = present_tracks(scores, [])
    by_artist: dict[str, list[str]] = defaultdict(list)
    for track_id in scores:
        key = artist_of(tracks[track_id]) if track_id in tracks else ""
        if key and name not in (key, tracks[track_id].artist):
            by_artist[key].append(track_id)
    names = _names(by_artist)
    found = [
        SimilarArtist(
            tracks[ids[0]].artist_id, names.get(key, tracks[ids[0]].artist), _score([scores[i] for i in ids]), ids
        )
        for key, ids in by_artist.items()
    ]
    best = sorted(found, key=lambda each: (-round(each.score, DIGITS), each.name, each.id))
    return Artists(best[: query.limit], own, answer.warnings)


def _score(best_first: list[float]) -> float:
    return sum([*best_first, *[CHANCE] * BEST][:BEST]) / BEST


def _names(artist_ids: Collection[str]) -> dict[str, str]:
    """Return the artists' names, by id: a track's says who else plays on it."""
    try:
        return open_library().artist_names(artist_ids)
    except LibraryUnavailable as error:
        logger.warning("Artists are called as their tracks say: %s", error)
        return {}
