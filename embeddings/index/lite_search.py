"""How Milvus Lite searches collections as ours are: all at once by NumPy, instead of row by row in Python.

Lite asks of each row in each search whether it is the newest of its id and not deleted; that changes only with a write.
It copies all vectors and measures their lengths to compare with them. It makes an object of each number of each hit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any

import numpy as np
from milvus_lite.index.brute_force import BruteForceIndex
from milvus_lite.search.indexed_filter import evaluate_segment_filter
from numpy.typing import NDArray

COSINE = "COSINE"
BLOCK_BYTES = 2**18  # of vectors at a time: OpenBLAS multiplies so few as they lie, and rearranges more of them first

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]
Hits = list[dict[str, Any]]


class FlatIndex(BruteForceIndex):  # type: ignore[misc]  # Lite has no types
    """Compares with the vectors that a segment holds in memory anyway. ``living``: as of when, and which rows count."""

    living: tuple[object, Mask] = (None, np.empty(0, bool))

    @cached_property
    def lengths(self) -> Floats:
        return lengths_of(self._vectors)

    def search(
        self, queries: Floats, top_k: int, valid_mask: Mask | None = None, params: Any = None
    ) -> tuple[Ids, Floats]:
        if self.metric != COSINE or top_k <= 0 or not self.num_vectors:
            found: tuple[Ids, Floats] = super().search(queries, top_k, valid_mask, params)
            return found
        return nearest(self._vectors, self.lengths, np.atleast_2d(queries), top_k, valid_mask)


def faster(execute: Callable[..., list[Hits]]) -> Callable[..., list[Hits]]:
    """Return ``execute``, Lite's own search, which now is asked only where ours does not suit."""

    def search(segments: Sequence[Any], memtable: Any, **options: Any) -> list[Hits]:
        filled = [segment for segment in segments if segment.num_rows]
        suits = (
            options["metric_type"] == COSINE
            and options["output_fields"] == [options["pk_field"]]
            and not options["partition_names"]
            and not memtable.size()  # all is flushed
            and all(isinstance(each.indexes.get(options["vector_field"]), FlatIndex) for each in filled)
        )
        return _search(filled, **options) if suits else execute(segments=segments, memtable=memtable, **options)

    return search


def _search(
    segments: Sequence[Any],
    *,
    query_vectors: Floats,
    delta_index: Any,
    top_k: int,
    vector_field: str,
    compiled_filter: Any,
    indexed_filter_plan: Any,
    **_options: Any,
) -> list[Hits]:
    """Return for each query the ids of its ``top_k`` nearest rows, nearest first, as Lite's search does."""
    found = []
    for segment, living in zip(segments, _living(segments, vector_field, delta_index._map), strict=True):
        rows = living
        if compiled_filter is not None:
            rows = living & evaluate_segment_filter(segment, compiled_filter, indexed_filter_plan)
        index = segment.indexes[vector_field]
        found.append((segment.pks, *index.search(query_vectors, top_k, None if rows.all() else rows)))
    return [
        _merged([(ids, places[query], distances[query]) for ids, places, distances in found], top_k)
        for query in range(len(query_vectors))
    ]


def _merged(found: Sequence[tuple[Sequence[str], Ids, Floats]], top_k: int) -> Hits:
    """Return the ``top_k`` nearest of what each segment has found: its ids, and places and distances in order."""
    hits = [
        {"id": ids[place], "distance": float(distance), "entity": {}}
        for ids, places, distances in found
        for place, distance in zip(places, distances, strict=True)
        if place >= 0
    ]
    return sorted(hits, key=itemgetter("distance"))[:top_k]


def _living(segments: Sequence[Any], field: str, deleted: dict[str, int]) -> list[Mask]:
    """Return for each segment which of its rows count: the newest of an id, unless it was deleted later.

    Each write has a number greater than all before; ``deleted`` has that of an id's last deletion. So the same segments
    and the same greatest deletion mean that nothing has changed since the last search.
    """
    state = ([segment.file_path for segment in segments], max(deleted.values(), default=-1))
    indexes = [segment.indexes[field] for segment in segments]
    known = [index.living for index in indexes]
    if all(as_of == state for as_of, _ in known):
        return [rows for _, rows in known]
    newest: dict[str, int] = {}
    for segment in segments:
        for track_id, number in zip(segment.pks, segment.seqs.tolist(), strict=True):
            newest[track_id] = max(number, newest.get(track_id, -1))
    for segment, index in zip(segments, indexes, strict=True):
        numbers = zip(segment.pks, segment.seqs.tolist(), strict=True)
        rows = np.fromiter((newest[each] == number >= deleted.get(each, -1) for each, number in numbers), bool)
        _, has_vector = segment.vector_data(field)
        index.living = state, rows if has_vector is None else rows & has_vector
    return [index.living[1] for index in indexes]


def lengths_of(vectors: Floats) -> Floats:
    """Return the lengths [n] of vectors [n, dimension]; 1 for those without any, so that one may divide."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.where(lengths > 0, lengths, 1).astype(np.float32)


def nearest(vectors: Floats, lengths: Floats, queries: Floats, top_k: int, valid: Mask | None) -> tuple[Ids, Floats]:
    """Return for each of ``queries`` the places of its ``top_k`` nearest valid vectors, and 1 − cosine: [queries, k].

    Nearest first; where there are fewer, the places end in −1 and the distances in infinity.
    """
    units = (queries / lengths_of(queries)[:, None]).astype(np.float32)
    distances = np.maximum(1 - _products(units, vectors) / lengths, 0)
    if valid is not None:
        distances[:, ~valid] = np.inf
    places = np.full((len(queries), top_k), -1, np.int64)
    found = np.full((len(queries), top_k), np.inf, np.float32)
    kept = min(top_k, len(vectors))
    for row, of_query in enumerate(distances):
        best = np.argpartition(of_query, kept - 1)[:kept]
        best = best[np.lexsort((best, of_query[best]))]
        best = best[np.isfinite(of_query[best])]
        places[row, : len(best)] = best
        found[row, : len(best)] = of_query[best]
    return places, found


def _products(queries: Floats, vectors: Floats) -> Floats:
    """Return the dot products of each with each: [queries, vectors]."""
    found = np.empty((len(queries), len(vectors)), np.float32)
    step = max(1, BLOCK_BYTES // vectors[0].nbytes)
    for start in range(0, len(vectors), step):
        found[:, start : start + step] = queries @ vectors[start : start + step].T
    return found
