"""Search vectors: what Milvus compares in place of embeddings that are too long for it.

A projection P·D·S of unit vectors: S flips signs, D is the orthonormal DCT-II, P keeps a fixed subset of the
coefficients (a subsampled randomised orthogonal transform; Ailon & Chazelle, "The fast Johnson-Lindenstrauss
transform and approximate nearest neighbors", SIAM J. Comput. 39, 2009). Cosines are kept approximately:
candidates found by it are ranked again with the embeddings themselves.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import Encoder

SEED = b"navembed search projection 1"
SEARCH_DIMENSION = 2048
"""A search vector follows from them: a change makes those in Milvus meaningless, so fingerprints hold both."""


def search_dimension(encoder: type[Encoder], dimension: int) -> int:
    """Return how many numbers the search vector of an embedding with ``dimension`` numbers has."""
    return min(encoder.search_dimension or dimension, dimension)


def is_projected(encoder: type[Encoder], dimension: int) -> bool:
    """Whether the search vector is only an approximation of the embedding."""
    return search_dimension(encoder, dimension) < dimension


def search_vectors(encoder: type[Encoder], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the search vectors of embeddings [n, dimension]: float32 [n, search_dimension]."""
    dimension = vectors.shape[1]
    if not is_projected(encoder, dimension):
        return vectors
    return project(vectors, dimension=search_dimension(encoder, dimension))


def project(vectors: NDArray[np.float32], *, dimension: int = SEARCH_DIMENSION) -> NDArray[np.float32]:
    """Project float32 [n, d] to float32 [n, dimension] of unit length; ValueError unless dimension < d."""
    from scipy.fft import dct

    width = vectors.shape[1]
    if not 0 < dimension < width:
        raise ValueError(f"cannot project {width} numbers to {dimension}")
    signs, subset = _pattern(width, dimension)
    projected = np.empty((len(vectors), dimension), np.float32)
    for row, vector in zip(projected, vectors, strict=True):
        row[:] = dct(vector * signs, type=2, norm="ortho")[subset]
    lengths = np.linalg.norm(projected, axis=1, keepdims=True)
    projected /= np.maximum(lengths, np.finfo(np.float32).tiny)
    return projected


@lru_cache(maxsize=8)
def _pattern(width: int, dimension: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Draw signs float32 [width] and ``dimension`` ascending indices below ``width``, from SHAKE-256.

    No library's random numbers: those may change with its version.
    """
    bits = np.unpackbits(_draw("signs", width, -(-width // 8)))[:width]
    keys = _draw("subset", width, 8 * width).view("<u8")
    return np.where(bits, np.float32(-1), np.float32(1)), np.sort(np.argsort(keys, kind="stable")[:dimension])


def _draw(purpose: str, width: int, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.shake_256(SEED + f"|{purpose}|{width}".encode()).digest(size), np.uint8)
