"""A path from one track to another: in steps that lie close to the straight line between both, and lead to the end.

1. Points on the line, at even distances, are searched for tracks near them: one call to Milvus.
2. Of what is found, each track's cosines to both ends are computed exactly; they say where it lies along the line, and
   how far from it.
3. Of all ways that come closer to the end with every step, that is taken whose tracks lie closest to their points; no
   artist comes twice in a row when another way, of half the length at least, is there.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    """Return a path of at most ``query.limit`` tracks, 2 at least, in the first space that the query's models have.

    It is shorter when fewer tracks lead from the start to the end. The same question gets the same path.
    """
    space = next(filter(None, map(live_space, query.models)), None)
    warnings: list[str] = []
    libraries = allowed_libraries(query, visible_libraries(query, warnings), warnings)
    if space is None:
        return Path([], [*warnings, f"{short_label(query.models[0])} does not know any track yet."])
    try:
        deadline = Deadline(seconds)
        found = _Line(space, start, end, deadline, warnings).track_ids(query.limit, libraries)
        return Path(_scored(space, found, deadline), warnings)
    except (IndexUnavailable, IndexRefused, OutOfTime) as error:
        logger.warning("There is no path from %s to %s: %s", start, end, error)
        return Path([], [*warnings, f"{short_label(space.model)} does not answer in time. Try again later."])


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
    """Return the squared distances from the points that lie at these shares of the line, by ``found`` [..., 2]."""
    points = (1 - along) ** 2 + along**2 + 2 * along * (1 - along) * between
    return 1 + points - 2 * ((1 - along) * found[..., 0] + along * found[..., 1])


def straightest(found: Floats, between: float, artists: Sequence[str], ends: Sequence[str], most: int) -> list[int]:
    """Return the places of at most ``most`` of the tracks, as a way from the start to the end.

    ``found`` [n, 2] are cosines to the start and the end, ``artists`` and ``ends`` who plays; empty for nobody known.
    The cosine to the end grows with every step. The way is shorter, by half at most, when that keeps every artist from
    coming twice in a row; when nothing does, that happens as seldom as can be.
    """
    nearness = np.round(found[:, 1], DIGITS)
    on_way = np.flatnonzero((nearness > round(between, DIGITS)) & (nearness < 1 - 10.0**-DIGITS))
    order = on_way[np.argsort(nearness[on_way], kind="stable")]
    steps = min(most, len(np.unique(nearness[order])))
    if steps <= 0:
        return []
    groups = np.split(np.arange(len(order)), np.flatnonzero(np.diff(nearness[order])) + 1)
    names = [*(artists[place] for place in order), *ends]
    _, players = np.unique([name or f"\0{place}" for place, name in enumerate(names)], return_inverse=True)
    repeats, _ = _ways(np.zeros((len(order), steps)), groups, players)
    varied = [length for length in range((steps + 1) // 2, steps + 1) if repeats[:, length - 1].min() < REPEAT]
    steps = max(varied, default=steps)
    shares = (np.arange(steps) + 1) / (steps + 1)
    costs, before = _ways(_from_points(found[order][:, None], between, shares), groups, players)
    way = [int(costs[:, -1].argmin())]
    for step in range(steps - 1, 0, -1):
        way.append(int(before[way[-1], step]))
    return [int(order[place]) for place in reversed(way)]


def _ways(
    off: Floats, groups: Sequence[NDArray[np.intp]], players: NDArray[np.intp]
) -> tuple[Floats, NDArray[np.intp]]:
    """Return what the best way to each track costs that has so many steps, and the track before it: [tracks, steps].

    A way costs what its tracks are ``off`` [tracks, steps], and for repeats. ``groups`` are the tracks by how near they
    are to the end, ``players`` [tracks + 2] who plays them, and the start and the end. Dynamic programming over tracks,
    with all steps at a time: of what comes before, only the best track counts, and the best of another artist.
    """
    *_, start, end = players
    costs, before = np.full(off.shape, np.inf), np.zeros(off.shape, np.intp)
    first, second = np.full((2, off.shape[1]), np.inf)
    first_at, second_at = np.zeros((2, off.shape[1]), np.intp)
    for group in groups:
        for track in group:
            best = first + REPEAT * (players[first_at] == players[track])
            is_second = second < best
            costs[track, 0] = REPEAT * (players[track] == start)
            costs[track, 1:] = np.where(is_second, second, best)[:-1]
            costs[track] = np.round(costs[track] + off[track], DIGITS)
            before[track, 1:] = np.where(is_second, second_at, first_at)[:-1]
        for track in group:
            is_other = players[first_at] != players[track]
            is_first = costs[track] < first
            falls = is_first & is_other
            second[falls], second_at[falls] = first[falls], first_at[falls]
            first[is_first], first_at[is_first] = costs[track, is_first], track
            is_second = ~is_first & is_other & (costs[track] < second)
            second[is_second], second_at[is_second] = costs[track, is_second], track
    return costs + REPEAT * (players[:-2] == end)[:, None], before


def _scored(space: EmbeddingSpace, track_ids: list[str], deadline: Deadline) -> list[Step]:
    if not track_ids:
        return []
    ids, among = gram(space, track_ids, deadline)
    places = [ids.index(each) for each in track_ids]
    shares = space_calibration(space, deadline).share(among[places[:-1], places[1:]])
    return [Step(track_id, float(score)) for track_id, score in zip(track_ids, [1.0, *shares], strict=True)]
