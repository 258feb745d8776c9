"""Our comparison with all vectors gives what Milvus Lite's own gives."""

from __future__ import annotations

import numpy as np
import pytest
from milvus_lite.index.brute_force import BruteForceIndex

from embeddings.milvus_lite_flat import lengths_of, nearest
from tests.index.conftest import unit

VECTORS = 3 * unit(50, 8)
QUERIES = 2 * unit(4, 8, seed=1)


@pytest.mark.parametrize("top_k", [1, 10, 50, 60])
@pytest.mark.parametrize("excluded", [0, 7, 49, 50])
def test_places_and_distances_are_those_of_lite(top_k: int, excluded: int) -> None:
    valid = np.arange(50) >= excluded if excluded else None
    places, distances = nearest(VECTORS, lengths_of(VECTORS), QUERIES, top_k, valid)
    expected_places, expected = BruteForceIndex(VECTORS, "COSINE").search(QUERIES, top_k, valid)
    assert (places == expected_places).all()
    assert distances == pytest.approx(expected, abs=1e-6)


def test_vector_without_a_length_is_far_from_everything() -> None:
    vectors = np.vstack([VECTORS[:3], np.zeros((1, 8), np.float32)])
    places, distances = nearest(vectors, lengths_of(vectors), QUERIES, 4, None)
    assert np.isfinite(distances).all()
    assert (distances[places == 3] == 1).all()
