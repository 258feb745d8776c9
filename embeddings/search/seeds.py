"""What a model starts from: its own vectors of the seeds, weighted, in groups of those that sound alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from embeddings.models import EmbeddingSpace
from embeddings.search.comparing import Floats, Probe, as_text, probe, stored
from embeddings.search.deadline import Deadline
from embeddings.search.query import Seed

MOST_SEEDS = 200  # of a model: those that weigh most
MOST_GROUPS = 4
HALF_LIFE_DAYS = 30.0  # after which a play counts half
MOST_DAYS = 3650
DIGITS = 9  # to which similarities are compared: what differs less is a tie, whatever the order of a sum


class Group(NamedTuple):
    """Seeds that are alike: their places among the model's seeds, and their shares of the group's weight."""

    members: list[int]
    shares: Floats

    def query(self, seeds: Sequence[Probe]) -> Floats:
        """Return the weighted sum [dimension] of the seeds: its cosine orders as the weighted mean of theirs does."""
        return self.shares @ np.stack([seeds[place].vector for place in self.members])

    def means(self, cosines: Floats) -> Floats:
        """Return the weighted mean [n] of the cosines [n, seeds]."""
        return cosines[:, self.members] @ self.shares


class Start(NamedTuple):
    """What a model starts from, heaviest first, and how many seeds it does not know or leaves out as too many."""

    probes: list[Probe]
    unknown: int
    left_out: int


def weight_of(seed: Seed, now: datetime) -> float:
    """Return the seed's weight, less the longer ago it was played.

    In whole days, so that the same question soon again gets the same answer.
    """
    days = (now - seed.played_at).days if seed.played_at else 0
    return float(seed.weight * 0.5 ** (min(max(days, 0), MOST_DAYS) / HALF_LIFE_DAYS))


def start_of(space: EmbeddingSpace, seeds: Sequence[Seed], now: datetime, deadline: Deadline) -> Start:
    """Return what the space's model makes of the seeds; their order does not matter.

    An embedding of another dimension is another model's. A track that comes twice counts with the sum of its
    weights. Raises OutOfTime.
    """
    given: list[Probe] = []
    weights: dict[str, float] = {}
    for seed in seeds:
        weight = weight_of(seed, now)
        if weight <= 0:
            continue
        if seed.embedding is None:
            weights[seed.track_id] = weights.get(seed.track_id, 0.0) + weight
        elif len(seed.embedding) == space.dimension:
            found = probe(seed.embedding, weight=weight, track_id=seed.track_id)
            given += [as_text(found) if seed.is_text else found] if found else []
    known = space.embeddings.filter(track_id__in=list(weights)).values_list("track_id", flat=True)
    ordered = sorted(known, key=lambda track_id: (-weights[track_id], track_id))
    looked_up = track_probes(space, {track_id: weights[track_id] for track_id in ordered[:MOST_SEEDS]}, deadline)
    given.sort(key=lambda each: each.vector.tobytes())
    probes = sorted([*given, *looked_up], key=lambda each: (-each.weight, each.track_id))
    left_out = len(ordered) + len(given) - MOST_SEEDS
    return Start(probes[:MOST_SEEDS], len(weights) - len(ordered), max(0, left_out))


def track_probes(space: EmbeddingSpace, weights: Mapping[str, float], deadline: Deadline) -> list[Probe]:
    """Return the embeddings of these tracks, those that the space has, with their weights. Raises OutOfTime."""
    return [
        found
        for block in stored(space, weights, deadline)
        for track_id, row in zip(block.ids, block.rows, strict=True)
        if (found := probe(row, weight=weights[track_id], track_id=track_id))
    ]


def grouped(seeds: Sequence[Probe], alike: float = math.inf) -> list[Group]:
    """Put seeds into at most four groups: the two groups with the highest mean cosine are joined until four are left.

    From there on only those are joined whose mean cosine is at least ``alike``. A text and a track never share a
    group. Of equal pairs the first is joined.
    """
    vectors = np.stack([seed.vector for seed in seeds])
    is_text = np.array([seed.is_text for seed in seeds])
    totals = np.where(is_text[:, None] == is_text, vectors @ vectors.T, -np.inf)
    np.fill_diagonal(totals, -np.inf)
    groups = [[place] for place in range(len(seeds))]
    while len(groups) > 1:
        sizes = np.array([len(members) for members in groups])
        means = np.round(totals / np.outer(sizes, sizes), DIGITS)
        if len(groups) <= MOST_GROUPS and means.max() < alike:
            break
        one, other = sorted(divmod(int(means.argmax()), len(groups)))
        groups[one] += groups.pop(other)
        totals[one] += totals[other]
        totals[:, one] = totals[one]
        totals[one, one] = -np.inf
        totals = np.delete(np.delete(totals, other, axis=0), other, axis=1)
    return [_group(seeds, members) for members in groups]


def _group(seeds: Sequence[Probe], members: list[int]) -> Group:
    weights = np.array([seeds[place].weight for place in members])
    return Group(members, weights / weights.sum())


def alone(place: int) -> Group:
    """Return the group of one seed."""
    return Group([place], np.ones(1))
