"""Mean, robust spread and drift of a matrix."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from embeddings.encoders.pooling import enrich, enrich_slabs
from embeddings.errors import EncodeError
from tests.encoders import reference

RNG = np.random.default_rng(1)


@pytest.mark.parametrize("frames", [1, 2, 3, 43, 500])
def test_equals_the_plain_formula(frames: int):
    matrix = RNG.standard_normal((70, frames)).astype(np.float32)
    expected = reference.enrich(matrix.astype(np.float64))
    np.testing.assert_allclose(enrich(matrix), expected, atol=1e-7)


def test_has_unit_length_and_single_precision():
    vector = enrich(np.float32(RNG.standard_normal((64, 9))))
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_one_frame_has_neither_spread_nor_drift():
    assert enrich(np.ones((4, 1), np.float32)).tolist() == [0.5] * 4 + [0.0] * 8


def test_slabs_give_what_the_whole_gives():
    matrix = np.float32(RNG.standard_normal((50, 20)))
    np.testing.assert_array_equal(enrich_slabs([matrix[:7], matrix[7:]]), enrich(matrix))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(value: float):
    matrix = np.ones((4, 5), np.float32)
    matrix[2, 3] = value
    with pytest.raises(EncodeError, match="not finite"):
        enrich(matrix)


def test_silence_without_direction_is_refused():
    with pytest.raises(EncodeError, match="silence"):
        enrich(np.zeros((4, 5), np.float32))


def test_rows_in_a_file_are_pooled_in_little_memory(tmp_path: Path):
    rows = np.memmap(tmp_path / "rows", np.float32, "w+", shape=(1_500, 25_600))  # 154 MB
    rows[:, ::7] = np.arange(1_500)[:, None]
    tracemalloc.start()
    vector = enrich(rows.T)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert vector.shape == (76_800,)
    assert peak < 64 * 2**20
