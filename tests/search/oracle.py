"""What a recommendation must be, told again as plainly as can be: float64, every track compared, one by one.

Nothing of the engine is used here but the types of question and the numbers that were drawn at random: the space's
mean and deviation, and its sample.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from embeddings.search.query import Query, Seed

Vector = Sequence[float]


@dataclass(frozen=True)
class Item:
    """Something that tracks are compared with."""

    vector: Vector
    weight: float = 1.0
    name: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class Space:
    """One model's vectors by track, and what random pairs of them are like."""

    vectors: Mapping[str, Vector]
    dimension: int
    mean: float
    deviation: float
    sample: Sequence[str]


@dataclass(frozen=True)
class World:
    """Spaces by model; tracks as Navidrome tells them now; libraries by user."""

    spaces: Mapping[str, Space]
    tracks: Mapping[str, Mapping[str, Any]]
    playlists: Mapping[str, Sequence[str]]
    users: Mapping[str, set[int] | None]


def answer(world: World, query: Query, now: datetime) -> list[tuple[str, float]]:
    """Return track ids and scores, best first."""
    starts = {
        model: items for model in dict.fromkeys(query.models) if (items := _start(world.spaces[model], query, now))
    }
    allowed = _allowed(world, query)
    scores: dict[str, dict[str, float]] = {}
    close: dict[str, float] = {}
    for model, items in starts.items():
        space = world.spaces[model]
        groups = _groups(items)
        disliked = [Item(space.vectors[i]) for i in set(query.disliked_track_ids) if i in space.vectors]
        for track in allowed & set(space.vectors):
            scores.setdefault(track, {})[model] = max(_group_score(space, group, track) for group in groups)
            for each in disliked:
                share = _phi((_cosine(space, each, track) - space.mean) / space.deviation)
                close[track] = max(close.get(track, 0.0), min(1.0, max(0.0, (share - 0.95) / 0.05)))
    needed = len(starts) if query.merge == "intersection" else min(query.min_agreement, max(1, len(starts)))
    final, lost = {}, {}
    for track, by_model in scores.items():
        if len(by_model) < needed:
            continue
        score = _merged(by_model, query)
        artists = world.tracks[track]["participants"] & set(query.disliked_artist_ids)
        is_meant = track in query.disliked_track_ids or bool(artists)
        if is_meant and query.dislike_strength >= 1:
            continue
        left = 1 - query.dislike_strength * (1.0 if is_meant else close.get(track, 0.0))
        left *= 1 - (1 - query.negative_penalty) * _negative(world, query, track)
        final[track], lost[track] = score * left, 1 - left
    return _picked(world, query, starts, _one_recording(world, final), lost)


def _start(space: Space, query: Query, now: datetime) -> list[Item]:
    items: list[Item] = []
    tracks: dict[str, float] = {}
    for seed in query.seeds:
        weight = seed.weight * 0.5 ** (max(0, (now - seed.played_at).days) / 30 if seed.played_at else 0)
        if weight <= 0:
            continue
        if seed.embedding is None:
            tracks[seed.track_id] = tracks.get(seed.track_id, 0.0) + weight
        elif len(seed.embedding) == space.dimension and _is_sound(seed.embedding):
            items.append(Item(_unit(seed.embedding), weight, seed.track_id, _is_text(seed)))
    items += [Item(space.vectors[i], weight, i) for i, weight in tracks.items() if i in space.vectors]
    return sorted(items, key=lambda item: (-item.weight, item.name))


def _is_sound(vector: Any) -> bool:
    return all(math.isfinite(x) for x in vector) and any(vector)


def _is_text(seed: Seed) -> bool:
    said = seed.source == "text" or seed.track_id == "_text_query_"
    return said and _has_only_a_mean(seed.embedding)


def _has_only_a_mean(vector: Any) -> bool:
    return len(vector) % 3 == 0 and not any(vector[len(vector) // 3 :])


def _groups(items: list[Item]) -> list[list[Item]]:
    groups = [[item] for item in items]
    while len(groups) > 4:
        pairs = [
            (-round(sum(_dot(a.vector, b.vector) for a in one for b in other) / len(one) / len(other), 9), i, j)
            for i, one in enumerate(groups)
            for j, other in enumerate(groups)
            if i < j and one[0].is_text == other[0].is_text
        ]
        _, i, j = min(pairs)
        groups[i] += groups.pop(j)
    return groups


def _group_score(space: Space, group: list[Item], track: str) -> float:
    def mean(of: str) -> float:
        total = sum(item.weight for item in group)
        return sum(item.weight * _cosine(space, item, of) for item in group) / total

    centre, spread = space.mean, space.deviation
    if group[0].is_text:
        centre, spread = _moments([mean(each) for each in space.sample])
    return _phi((mean(track) - centre) / spread)


def _negative(world: World, query: Query, track: str) -> float:
    shares = [0.0]
    for model in query.models:
        space = world.spaces[model]
        for vector in query.negative_embeddings.get(model, ()):
            if len(vector) != space.dimension or not _is_sound(vector) or track not in space.vectors:
                continue
            item = Item(_unit(vector), is_text=_has_only_a_mean(vector))
            centre, spread = space.mean, space.deviation
            if item.is_text:
                centre, spread = _moments([_cosine(space, item, each) for each in space.sample])
            shares.append(_phi((_cosine(space, item, track) - centre) / spread))
    return max(shares)


def _merged(by_model: Mapping[str, float], query: Query) -> float:
    heard = list(by_model)
    if query.merge == "priority":
        number = {model: query.priorities.get(model, math.inf) for model in heard}
        heard = [model for model in heard if number[model] == min(number.values())]
    return sum(by_model[model] for model in heard) / len(heard)


def _allowed(world: World, query: Query) -> set[str]:
    excluded = {seed.track_id for seed in query.seeds} | set(query.exclude_track_ids)
    for playlist in query.exclude_playlist_ids:
        excluded |= set(world.playlists.get(playlist, ()))
    libraries = {track["library_id"] for track in world.tracks.values()}
    if query.library_ids:
        libraries &= set(query.library_ids)
    seen = world.users[query.user_id] if query.user_id else None
    if seen is not None:
        libraries &= seen
    return {i for i, t in world.tracks.items() if not t["missing"] and t["library_id"] in libraries} - excluded


def _one_recording(world: World, scores: Mapping[str, float]) -> list[tuple[str, float]]:
    seen, kept = set(), []
    for track, score in sorted(scores.items(), key=lambda pair: (-round(pair[1], 9), pair[0])):
        name = (world.tracks[track]["title"].lower(), world.tracks[track]["artist"].lower())
        if all(name) and name in seen:
            continue
        seen.add(name)
        kept.append((track, score))
    return kept


def _picked(
    world: World,
    query: Query,
    starts: Mapping[str, list[Item]],
    ranked: list[tuple[str, float]],
    lost: Mapping[str, float],
) -> list[tuple[str, float]]:
    if query.diversity == 0 or not starts:
        return ranked[: query.limit]
    space = world.spaces[next(iter(starts))]
    most = math.ceil(round(query.limit ** (1 - query.diversity), 9))
    picked: list[tuple[str, float]] = []
    by_artist: dict[str, int] = {}
    left = list(ranked)
    while left and len(picked) < query.limit:
        values = [_marginal(space, query.diversity, each, picked, lost[each[0]]) for each in left]
        place = values.index(max(values))
        track, score = left.pop(place)
        artist = world.tracks[track]["artist"] and world.tracks[track]["artist_id"]
        if artist and by_artist.get(artist, 0) >= most:
            continue
        by_artist[artist] = by_artist.get(artist, 0) + 1
        picked.append((track, score))
    return picked


def _marginal(
    space: Space, diversity: float, candidate: tuple[str, float], picked: list[tuple[str, float]], lost: float
) -> float:
    track, score = candidate
    closest = 0.0
    for other, _ in picked:
        if track in space.vectors and other in space.vectors:
            cosine = _dot(space.vectors[track], space.vectors[other])
            closest = max(closest, _phi((cosine - space.mean) / space.deviation))
    return round((1 - diversity) * score - diversity * (closest + lost), 9)


def _cosine(space: Space, item: Item, track: str) -> float:
    vector = space.vectors[track]
    if item.is_text:
        third = space.dimension // 3
        return _dot(_unit(item.vector[:third]), _unit(vector[:third]))
    return _dot(item.vector, vector)


def _moments(values: list[float]) -> tuple[float, float]:
    mean = sum(values) / len(values)
    return mean, max(1e-4, math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)))


def _phi(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def _unit(vector: Any) -> Vector:
    length = math.sqrt(_dot(vector, vector))
    return [float(x) / length for x in vector]


def _dot(one: Any, other: Any) -> float:
    return math.fsum(float(a) * float(b) for a, b in zip(one, other, strict=True))
