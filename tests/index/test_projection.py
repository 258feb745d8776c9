"""Search vectors that stand in for long embeddings, and embeddings as bytes."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.encoders.registry import encoder_class
from embeddings.errors import IndexRefused
from embeddings.index.projection import _pattern, is_projected, project, search_vectors
from embeddings.spaces.vectors import from_bytes, to_bytes
from tests.index.conftest import unit

MERT, MUQ = encoder_class("mert"), encoder_class("muq")


def dct_matrix(width: int) -> np.ndarray:
    """The orthonormal DCT-II as a matrix, float64, from its definition."""
    k, n = np.mgrid[:width, :width]
    matrix = np.sqrt(2 / width) * np.cos(np.pi * (n + 0.5) * k / width)
    matrix[0] /= np.sqrt(2)
    return matrix


def test_the_projection_is_the_one_that_its_formula_states() -> None:
    vectors = unit(3, 300)
    signs, subset = _pattern(300, 40)
    expected = (vectors.astype(np.float64) * signs) @ dct_matrix(300).T[:, subset]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(project(vectors, dimension=40), expected, atol=1e-6)


def test_the_pattern_never_changes() -> None:
    """Stored search vectors depend on it."""
    signs, subset = _pattern(76_800, 2048)
    assert subset[:6].tolist() == [51, 91, 115, 180, 213, 249]
    assert signs[:12].tolist() == [-1, -1, -1, 1, 1, 1, -1, -1, 1, -1, -1, 1]
    assert len(set(subset.tolist())) == 2048


def test_projections_have_unit_length_and_keep_cosines_nearly() -> None:
    vectors = unit(40, 76_800) + unit(1, 76_800, seed=1) * 0.8
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    projected = project(vectors)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1, atol=1e-5)
    assert np.abs(projected @ projected.T - vectors @ vectors.T).max() < 0.12


def test_a_projection_must_be_narrower() -> None:
    with pytest.raises(ValueError, match="cannot project 8 numbers to 8"):
        project(unit(1), dimension=8)


@pytest.mark.parametrize(("encoder", "dimension"), [(MERT, 1200), (MERT, 2048), (MUQ, 1536)])
def test_embeddings_that_are_short_enough_are_their_own_search_vectors(encoder: type, dimension: int) -> None:
    vectors = unit(2, dimension)
    assert not is_projected(encoder, dimension)
    assert search_vectors(encoder, vectors) is vectors


@pytest.mark.parametrize(("dtype", "size", "tolerance"), [("float32", 4, 0), ("float16", 2, 1e-3)])
def test_a_vector_survives_its_bytes(dtype: str, size: int, tolerance: float) -> None:
    (vector,) = unit(1, 100)
    data = to_bytes(vector, dtype)
    assert len(data) == 100 * size
    np.testing.assert_allclose(from_bytes(data, dtype, 100), vector, rtol=tolerance, atol=1e-6 * (size < 4))


def test_bytes_are_little_endian() -> None:
    assert to_bytes(np.array([1], np.float32), "float32") == b"\x00\x00\x80\x3f"


@pytest.mark.parametrize("bad", [np.array([np.nan, 1]), np.zeros(3), np.array([1e9]), np.ones((2, 2))])
def test_no_bytes_of_what_is_no_vector(bad: np.ndarray) -> None:
    with pytest.raises(IndexRefused), np.errstate(over="ignore"):
        to_bytes(bad.astype(np.float32), "float16")


def test_bytes_of_another_length_are_refused() -> None:
    with pytest.raises(IndexRefused, match="8 bytes are not 3 numbers of float32"):
        from_bytes(b"\x00" * 8, "float32", 3)
