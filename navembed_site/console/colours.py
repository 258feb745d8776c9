"""What the map's colours mean: a few values of a track have one each, the others share grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from zlib import crc32

import numpy as np
from django.db.models import Count, QuerySet
from numpy.typing import NDArray

from embeddings.encoders.registry import ENCODERS
from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.models import Embedding, EmbeddingSpace, SpaceMap
from embeddings.spaces.rows import around_sample, rows_of
from navembed_site.http.remembered import Remembered

GREY = 11
"""Number of the last colour; console.css has them."""
KINDS = {"genre": "Genre", "library": "Library", "album": "Album", "cluster": "Group of like sound"}
COLUMNS = {"genre": "track__genre", "library": "track__library_id", "album": "track__album", "cluster": "pk"}
ROWS_A_BLOCK = 5_000
POINT = np.dtype([("key", "<i8"), ("colour", "<f4")])


@dataclass(frozen=True)
class Entry:
    """A line of the legend: a colour, what has it, and how many tracks these are."""

    colour: int
    name: str
    tracks: int


def shown(space: EmbeddingSpace) -> QuerySet[Embedding]:
    """Return the embeddings of the tracks that can be played."""
    return rows_of(space).filter(track__playable=True)


def legend(drawn: SpaceMap, kind: str) -> list[Entry]:
    """Return what the colours mean; nothing for albums, which are too many for it."""
    if kind == "album":
        return []
    if kind == "cluster":
        counts = np.bincount(np.frombuffer(drawn.clusters, np.uint8))
        return [Entry(colour, f"Group {colour + 1}", int(count)) for colour, count in enumerate(counts)]
    values, rest = frequent(drawn.space_id, kind).get()
    names = _names(kind)
    entries = [Entry(i, names.get(value, str(value)), tracks) for i, (value, tracks) in enumerate(values)]
    return [*entries, Entry(GREY, "Others", rest)] if rest else entries


def colours(drawn: SpaceMap, kind: str) -> NDArray[Any]:
    """Return what is drawn of the tracks that can be played, hardly more, and the colours: ``POINT``, by key."""
    some = around_sample(shown(drawn.space), np.frombuffer(drawn.keys, "<i8"))
    rows = some.values_list("pk", COLUMNS[kind]).iterator(chunk_size=ROWS_A_BLOCK)
    found = np.fromiter(_coloured(rows, drawn, kind), POINT)
    found.sort(order="key")
    return found


def _coloured(rows: Iterator[tuple[int, Any]], drawn: SpaceMap, kind: str) -> Iterator[tuple[int, int]]:
    if kind == "album":
        return ((key, crc32(album.encode()) % GREY if album else GREY) for key, album in rows)
    if kind == "cluster":
        keys, groups = np.frombuffer(drawn.keys, "<i8").tolist(), np.frombuffer(drawn.clusters, np.uint8).tolist()
        of_track = dict(zip(keys, groups, strict=True))
        return ((key, of_track.get(key, GREY)) for key, _ in rows)
    numbers = {value: number for number, (value, _) in enumerate(frequent(drawn.space_id, kind).get()[0])}
    return ((key, numbers.get(value, GREY)) for key, value in rows)


@lru_cache(maxsize=len(ENCODERS) * len(KINDS))
def frequent(space_id: int, kind: str) -> Remembered[tuple[list[tuple[Any, int]], int]]:
    """Return what the legend and the points both are coloured by, and ask all tracks for."""
    return Remembered(partial(_frequent, space_id, kind))


def _frequent(space_id: int, kind: str) -> tuple[list[tuple[Any, int]], int]:
    """Return the most frequent values with their counts, and how many tracks have another one, or none."""
    column = COLUMNS[kind]
    of_space = shown(EmbeddingSpace(pk=space_id)).order_by().values_list(column)
    rows = list(of_space.annotate(tracks=Count("pk")).order_by("-tracks", column))
    named = [(value, tracks) for value, tracks in rows if value not in ("", None)][:GREY]
    return named, sum(tracks for _, tracks in rows) - sum(tracks for _, tracks in named)


def _names(kind: str) -> Mapping[Any, str]:
    if kind != "library":
        return {}
    try:
        return open_library().libraries()
    except LibraryUnavailable:
        return {}
