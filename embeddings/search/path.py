"""A path from one track to another: in steps that lie close to the straight line between both, and lead to the end.

1. Points on the line, at even distances, are searched for tracks near them: one call to Milvus.
2. Of what is found, each track's cosines to both ends are computed exactly; they say where it lies along the line, and
   how far from it.
3. Of all ways that come closer to the end with every step, that is taken whose tracks lie closest to their points; no
   artist comes twice in a row when another way of that length is there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from embeddings.errors import IndexRefused, IndexUnavailable, OutOfTime
from embeddings.library import PresentTrack
from embeddings.models import EmbeddingSpace
from embeddings.search.calibration import space_calibration
from embeddings.search.comparing import Floats, Probe, cosines, gram
from embeddings.search.deadline import Deadline
from embeddings.search.diversity import artist_of, one_of_each_recording, recording_of
from embeddings.search.listener import allowed_libraries, present_tracks, visible_libraries
from embeddings.search.merging import Candidate
from embeddings.search.query import Query
from embeddings.search.reasons import short_label
from embeddings.search.retrieval import FEWEST_OF_A_GROUP, Ready, candidates
from embeddings.search.seeds import DIGITS, Group, track_probes
from embeddings.search.similar import SECONDS
from embeddings.spaces.lifecycle import live_space

logger = logging.getLogger(__name__)

MOST_POINTS = 12  # at which the line is searched
SEARCH_SHARE = 0.6  # of the time
REPEAT = 1e5  # what an artist twice in a row costs: more than any detour


class Step(NamedTuple):
    """A track of a path, and how like the one before it is, 0 to 1; 1 for the first."""

    track_id: str
    score: float


@dataclass(frozen=True)
class Path:
    """Start, steps and end; empty when there is none, and then a warning says why."""

    steps: list[Step]
    warnings: list[str]


def path(start: str, end: str, query: Query, *, seconds: float = SECONDS) -> Path:
    """Return a path of at most ``query.limit`` tracks, 2 at least, in the space of the query's first model.

    It is shorter when fewer tracks lead from the start to the end. The same question gets the same path.
    """
    model = query.models[0]
    space = live_space(model)
    warnings: list[str] = []
    libraries = allowed_libraries(query, visible_libraries(query, warnings), warnings)
    if space is None:
        return Path([], [*warnings, f"{short_label(model)} does not know any track yet."])
    try:
        deadline = Deadline(seconds)
        found = _Line(space, start, end, deadline, warnings).track_ids(query.limit, libraries)
        return Path(_scored(space, found, deadline), warnings)
    except (IndexUnavailable, IndexRefused, OutOfTime) as error:
        logger.warning("There is no path from %s to %s: %s", start, end, error)
        return Path([], [*warnings, f"{short_label(model)} does not answer in time. Try again later."])


class _Line:
    """From one track to another, in one space."""

    def __init__(self, space: EmbeddingSpace, start: str, end: str, deadline: Deadline, warnings: list[str]) -> None:
        self.space = space
        self.ends = (start, end)
        self.deadline = deadline
        self.warnings = warnings

    def track_ids(self, limit: int, libraries: Collection[int] | None) -> list[str]:
        """Return the tracks of the path; none when an end is not known, or not to be seen."""
        start, end = self.ends
        known = {each.track_id: each for each in track_probes(self.space, dict.fromkeys(self.ends, 1.0), self.deadline)}
        if unknown := [each for each in dict.fromkeys(self.ends) if each not in known]:
            self.warnings.append(f"{short_label(self.space.model)} does not know {' and '.join(unknown)}.")
            return []
        probes = [known[start], known[end]]
        wanted = [] if limit <= 2 or start == end else self._near(probes, limit, libraries)
        seen = present_tracks({*wanted, *self.ends}, self.warnings, libraries)
        if not seen.keys() >= set(self.ends):
            self.warnings.append("The path's start or end is not in your library now.")
            return []
        if start == end:
            return [start]
        return [start, *self._between(probes, [each for each in wanted if each in seen], seen, limit), end]

    def _near(self, probes: list[Probe], limit: int, libraries: Collection[int] | None) -> list[str]:
        """Return tracks that are near the line, or rather near some points of it."""
        points = min(limit - 2, MOST_POINTS)
        shares = [(number + 1) / (points + 1) for number in range(points)]
        groups = [Group([0, 1], np.array([1 - share, share])) for share in shares]
        ready = Ready(self.space, probes, groups, [], space_calibration(self.space, self.deadline))
        wanted = max(points * FEWEST_OF_A_GROUP, 2 * limit)
        seconds = SEARCH_SHARE * self.deadline.left
        return candidates(ready, wanted, exclude=set(self.ends), library_ids=libraries, seconds=seconds)

    def _between(self, probes: list[Probe], near: list[str], tracks: dict[str, PresentTrack], limit: int) -> list[str]:
        """Return the tracks between both ends."""
        ids, found = cosines(self.space, probes, near, self.deadline)
        between = float(probes[0].vector @ probes[1].vector)
        nearness = zip(ids, -off_line(found, between), strict=True)
        heard = {recording_of(tracks[each].title, tracks[each].artist) for each in self.ends}
        kept = one_of_each_recording([Candidate(each, float(near), {}) for each, near in nearness], tracks, heard)
        places = sorted(ids.index(each.track_id) for each in kept)
        artists = [artist_of(tracks[ids[place]]) for place in places]
        ends = [artist_of(tracks[each]) for each in self.ends]
        chosen = straightest(found[places], between, artists, ends, limit - 2)
        return [ids[places[place]] for place in chosen]


def off_line(found: Floats, between: float) -> Floats:
    """Return the squared distances [n] of unit vectors from the line between two of them.

    ``found`` [n, 2] are their cosines to both ends, ``between`` is the cosine between these.
    """
    length = max(2 - 2 * between, 10.0**-DIGITS)
    along = np.clip((found[:, 1] - found[:, 0] + 1 - between) / length, 0, 1)
    return _from_points(found, between, along)


def _from_points(found: Floats, between: float, along: Floats) -> Floats:
    """Return the squared distances from the points that lie at these shares of the line; of any matching shape."""
    points = (1 - along) ** 2 + along**2 + 2 * along * (1 - along) * between
    return 1 + points - 2 * ((1 - along) * found[:, 0] + along * found[:, 1])


def straightest(found: Floats, between: float, artists: Sequence[str], ends: Sequence[str], most: int) -> list[int]:
    """Return the places of at most ``most`` of the tracks, as a way from the start to the end.

    ``found`` [n, 2] are cosines to the start and the end, ``artists`` and ``ends`` who plays; empty for nobody known.
    The cosine to the end grows with every step. Dynamic programming over steps and tracks.
    """
    nearness = np.round(found[:, 1], DIGITS)
    on_way = np.flatnonzero((nearness > round(between, DIGITS)) & (nearness < 1 - 10.0**-DIGITS))
    order = on_way[np.argsort(nearness[on_way], kind="stable")]
    steps = min(most, len(np.unique(nearness[order])))
    if steps <= 0:
        return []
    names = np.array([artists[place] for place in order])
    is_back = nearness[order][:, None] >= nearness[order]
    move = np.where(is_back, np.inf, REPEAT * _same(names[:, None], names))
    best = REPEAT * _same(ends[0], names)
    come_from = []
    for step in range(steps):
        if step:
            totals = np.round(best[:, None] + move, DIGITS)
            come_from.append(totals.argmin(axis=0))
            best = totals.min(axis=0)
        best = best + _from_points(found[order], between, np.array((step + 1) / (steps + 1)))
    place = int(np.round(best + REPEAT * _same(ends[1], names), DIGITS).argmin())
    way = [place]
    for before in reversed(come_from):
        way.append(int(before[way[-1]]))
    return [int(order[place]) for place in reversed(way)]


def _same(one: object, others: object) -> Floats:
    """Return 1 where both are the same known artist, else 0."""
    one, others = np.asarray(one), np.asarray(others)
    return np.where((one == others) & (one != ""), 1.0, 0.0)


def _scored(space: EmbeddingSpace, track_ids: list[str], deadline: Deadline) -> list[Step]:
    if not track_ids:
        return []
    ids, among = gram(space, track_ids, deadline)
    places = [ids.index(each) for each in track_ids]
    shares = space_calibration(space, deadline).share(among[places[:-1], places[1:]])
    return [Step(track_id, float(score)) for track_id, score in zip(track_ids, [1.0, *shares], strict=True)]
