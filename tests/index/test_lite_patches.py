"""What we do in the place of Milvus Lite gives what it gives itself."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from milvus_lite.engine import compaction, flush
from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
from milvus_lite.search import filter as filters
from milvus_lite.search.filter.parser import parse_expr as parse_as_lite
from milvus_lite.storage.segment import Segment
from numpy.typing import NDArray

from embeddings.index.lite_patches import install, parse_expr
from embeddings.index.store import _among
from tests.index.conftest import unit

VECTORS = 3 * unit(50, 8)


@pytest.mark.parametrize("rest", ["", " and library_id in [1, 2]", ' and track_id in ["b"]'])
def test_expression_means_what_lite_makes_of_it(rest: str) -> None:
    ids = ["a", "b", 'qu"ote', "back\\slash", "\U0001f941", "[x] and y"]
    schema = CollectionSchema(
        [
            FieldSchema("track_id", DataType.VARCHAR, is_primary=True, max_length=9),
            FieldSchema("library_id", DataType.INT64),
            FieldSchema("vector", DataType.FLOAT_VECTOR, dim=2),
        ]
    )
    rows = pa.table({"track_id": [*ids, "other"], "library_id": [1, 2, 3, 1, 2, 3, 1]})
    source = f"track_id not in {_among(ids[1:])}{rest}"
    ours, lites = (
        filters.evaluate(filters.compile_expr(parse(source), schema, source=source), rows).to_pylist()
        for parse in (parse_expr, parse_as_lite)
    )
    assert ours == lites


@pytest.mark.parametrize("is_known", [None, np.array([True, False])])
def test_row_is_what_lite_makes_of_it(is_known: NDArray[np.bool_] | None, unpatched: None) -> None:
    listed = [each.tolist() if is_known is None or is_known[n] else None for n, each in enumerate(VECTORS[:2])]
    columns = {
        "track_id": ["a", "b"],
        "vector": pa.array(listed, pa.list_(pa.float32(), 8)),
        "$meta": ['{"year": 1999}', None],
        "_seq": pa.array([1, 2], pa.uint64()),
    }
    segment = Segment(
        "", "", "track_id", "vector", ["a", "b"], np.array([1, 2], np.uint64), VECTORS[:2], pa.table(columns), is_known
    )
    expected = [segment.row_to_dict(place) for place in range(2)]
    install()
    assert [segment.row_to_dict(place) for place in range(2)] == expected
    assert expected[0] == {"track_id": "a", "vector": listed[0], "$meta": '{"year": 1999}', "year": 1999}


def test_rows_are_on_the_disk_before_the_log_is_deleted(
    unpatched: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    synced: list[Path] = []
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    install()
    for write in (flush.write_data_file, flush.write_delta_file, compaction.write_data_file):
        written = tmp_path / write(pa.table({"track_id": ["a"]}), str(tmp_path), 1, 2)
        assert synced == [written, written.parent]
        synced.clear()
