"""What Milvus Lite takes long for, faster; what a kill or a power cut could take from it, safe.

Comparing with all vectors: it copies them and measures their lengths each time. Reading a row: it makes an object
of each number of the row's vector, which takes longer than all the rest of a search. Reading an expression: it looks at
each character of ten thousands of excluded ids. A FLAT index: it writes the vectors a second time, and never loads a
collection again whose copy a kill has cut short. A flush: it deletes the log though the rows may not be on the disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

COSINE = "COSINE"
FLAT = "FLAT"
EXCLUDED = re.compile(r'(track_id) not in (?=\[")')

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]


def install() -> None:
    """Patches Lite: see the module. Call it before opening one."""
    from milvus_lite.engine import compaction, flush
    from milvus_lite.index.brute_force import BruteForceIndex
    from milvus_lite.search import filter as filters
    from milvus_lite.storage.segment import Segment

    class FlatIndex(BruteForceIndex):  # type: ignore[misc]  # Lite has no types
        """Compares with the vectors that the segment holds in memory anyway."""

        @cached_property
        def lengths(self) -> Floats:
            return lengths_of(self._vectors)

        def search(
            self, queries: Floats, top_k: int, valid_mask: NDArray[np.bool_] | None = None, params: Any = None
        ) -> tuple[Ids, Floats]:
            if self.metric != COSINE or top_k <= 0 or not self.num_vectors:
                found: tuple[Ids, Floats] = super().search(queries, top_k, valid_mask, params)
                return found
            return nearest(self._vectors, self.lengths, np.atleast_2d(queries), top_k, valid_mask)

    read, build = Segment.row_to_dict, Segment.build_or_load_index

    def row_to_dict(segment: Any, place: int) -> dict[str, Any]:
        field, known = segment._vector_field, segment.vector_null_mask
        if not field or not (known is None or known[place]):
            return dict(read(segment, place))
        others = SimpleNamespace(table=segment.table.drop_columns([field]))
        return {**read(others, place), field: segment.vectors[place].tolist()}

    def build_or_load_index(segment: Any, spec: Any, folder: str) -> None:
        if spec.index_type != FLAT:
            build(segment, spec, folder)
        elif segment.num_rows and spec.field_name not in segment.indexes:
            vectors, _ = segment.vector_data(spec.field_name)
            segment.attach_index(FlatIndex(vectors, spec.metric_type), spec.field_name)
            # Lite's own copy, written before the index was held in memory only
            Path(segment.index_file_path(folder, FLAT, spec.field_name)).unlink(missing_ok=True)

    filters.parse_expr = parse_expr
    Segment.build_or_load_index = build_or_load_index
    Segment.row_to_dict = row_to_dict
    for module in (compaction, flush):
        module.write_data_file = on_disk(module.write_data_file)
    flush.write_delta_file = on_disk(flush.write_delta_file)


def on_disk(write: Callable[..., str]) -> Callable[..., str]:
    """Return ``write(table, folder, …)``, whose file of rows is on the disk when it returns, and so is its name.

    Lite then names the file in its manifest and deletes the log, which was the only other place of the rows.
    """

    def write_and_sync(table: Any, folder: str, *args: Any, **options: Any) -> str:
        written = write(table, folder, *args, **options)
        for path in (Path(folder, written), Path(folder, written).parent):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return written

    return write_and_sync


def parse_expr(source: str, **options: Any) -> Any:
    """Return what Lite makes of an expression; of a list of excluded ids at its beginning all at once: it is JSON."""
    from milvus_lite.search.filter.ast import And, FieldRef, InOp, ListLit, StringLit
    from milvus_lite.search.filter.parser import parse_expr as parse

    start = EXCLUDED.match(source)
    if start is None:
        return parse(source, **options)
    try:
        ids, end = json.JSONDecoder().raw_decode(source, start.end())
    except ValueError:
        return parse(source, **options)
    here = ListLit(tuple(StringLit(each, start.end()) for each in ids), start.end())
    excluded = InOp(FieldRef(start[1], 0), here, True, len(start[1]) + 1)
    rest = source[end:].strip().removeprefix("and ")
    return And((excluded, parse(rest, **options)), end) if rest else excluded


def lengths_of(vectors: Floats) -> Floats:
    """Return the lengths [n] of vectors [n, dimension]; 1 for those without any, so that one may divide."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.where(lengths > 0, lengths, 1).astype(np.float32)


def nearest(
    vectors: Floats, lengths: Floats, queries: Floats, top_k: int, valid: NDArray[np.bool_] | None
) -> tuple[Ids, Floats]:
    """Return for each of ``queries`` the places of its ``top_k`` nearest valid vectors, and 1 − cosine: [queries, k].

    Nearest first; where there are fewer, the places end in −1 and the distances in infinity.
    """
    units = (queries / lengths_of(queries)[:, None]).astype(np.float32)
    distances = np.maximum(1 - units @ vectors.T / lengths, 0)
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
