"""What Milvus Lite takes long for, faster; what a kill or a power cut could take from it, safe.

Searching: see ``lite_search``. Reading a row: it makes an object of each number of the row's vector. Reading an
expression: it looks at each character of ten thousands of excluded ids. A FLAT index: it writes the vectors a second
time, and never loads a collection again whose copy a kill has cut short. A flush: it deletes the log though the rows
may not be on the disk.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FLAT = "FLAT"
EXCLUDED = re.compile(r'(track_id) not in (?=\[")')


def install() -> None:
    """Patches Lite: see the module. Call it before opening one."""
    from milvus_lite.engine import collection, compaction, flush
    from milvus_lite.search import filter as filters
    from milvus_lite.storage.segment import Segment

    from embeddings.index.lite_search import FlatIndex, faster

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
    collection.execute_search_with_index = faster(collection.execute_search_with_index)
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
