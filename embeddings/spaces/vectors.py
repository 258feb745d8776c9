"""Embeddings as bytes: little-endian, in the precision that ``Encoder.stored_dtype`` names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.errors import IndexRefused

DTYPES: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}


def to_bytes(vector: NDArray[np.float32], dtype: str) -> bytes:
    """Return a vector [dimension] as bytes. Raises IndexRefused when it is then zero or not finite."""
    stored = np.asarray(vector).astype(DTYPES[dtype])
    if stored.ndim != 1:
        raise IndexRefused(f"shape {stored.shape} is not one vector's", stage="store")
    return _sound(stored).tobytes()


def from_bytes(data: bytes | memoryview, dtype: str, dimension: int) -> NDArray[np.float32]:
    """Return float32 [dimension]. Raises IndexRefused when the bytes are not a sound vector."""
    stored = DTYPES[dtype]
    if len(data) != dimension * stored.itemsize:
        raise IndexRefused(f"{len(data)} bytes are not {dimension} numbers of {dtype}", stage="store")
    return _sound(np.frombuffer(data, stored)).astype(np.float32)


def _sound(vector: NDArray[Any]) -> NDArray[Any]:
    if not np.isfinite(vector).all() or not vector.any():
        raise IndexRefused("the vector is zero or not finite", stage="store")
    return vector
