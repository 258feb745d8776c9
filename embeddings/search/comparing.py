"""Exact cosines between stored embeddings and what they are compared with. All arithmetic is float64."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.errors import OutOfTime
from embeddings.models import EmbeddingSpace
from embeddings.search.deadline import Deadline
from embeddings.spaces.rows import rows_of
from embeddings.spaces.vectors import DTYPES

BLOCK_BYTES = 16 * 2**20  # of float64 at a time
PARTS = 3  # of an embedding: mean, spread, mean difference (embeddings.encoders.pooling)

Floats = NDArray[np.float64]

_turns = threading.Semaphore(os.cpu_count() or 1)
"""One comparison a core: more at once would all end late, and each has a block in memory."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Something that tracks are compared with: ``vector`` float64 [dimension], of unit length.

    A text's vector is [text; 0; 0]; it is compared with the mean part of embeddings alone.
    """

    vector: Floats
    weight: float = 1.0
    track_id: str = ""
    prompt: str = ""
    is_text: bool = False


def probe(vector: NDArray[np.floating], *, weight: float = 1.0, track_id: str = "", prompt: str = "") -> Probe | None:
    """Return the vector as a probe, None when it is zero or not finite."""
    wide = np.asarray(vector, np.float64)
    length = np.linalg.norm(wide)
    if not np.isfinite(length) or length == 0:
        return None
    return Probe(wide / length, weight, track_id, prompt)


def as_text(found: Probe) -> Probe:
    """Return the probe as that of a text, when its vector is one: nothing but a mean part."""
    is_text = found.vector.size % PARTS == 0 and not found.vector[found.vector.size // PARTS :].any()
    return Probe(found.vector, found.weight, found.track_id, found.prompt, is_text)


class Block(NamedTuple):
    """Some tracks' embeddings: float64 [tracks, dimension] as stored, and their lengths [tracks], about 1."""

    ids: list[str]
    rows: Floats
    lengths: Floats


@contextmanager
def turn(deadline: Deadline) -> Iterator[None]:
    """Wait until a core is free to compare. Raises OutOfTime."""
    if not _turns.acquire(timeout=min(deadline.left, threading.TIMEOUT_MAX)):
        raise OutOfTime("others were compared for too long")
    try:
        yield
    finally:
        _turns.release()


def stored(space: EmbeddingSpace, track_ids: Iterable[str], deadline: Deadline) -> Iterator[Block]:
    """Yield the tracks' embeddings in blocks; one is overwritten by the next.

    Tracks without a sound embedding are left out; no order. Raises OutOfTime.
    """
    dtype = DTYPES[encoder_class(space.model).stored_dtype]
    size = max(1, BLOCK_BYTES // (8 * space.dimension))
    found = rows_of(space).filter(track_id__in=list(track_ids))
    ids: list[str] = []
    rows = np.empty((size, space.dimension))
    for track_id, vector in found.values_list("track_id", "vector").iterator(chunk_size=size):
        if len(vector) != space.dimension * dtype.itemsize:
            continue
        rows[len(ids)] = np.frombuffer(vector, dtype)
        ids.append(track_id)
        if len(ids) == size:
            yield _sound(ids, rows)
            ids = []
            deadline.check()
    if ids:
        yield _sound(ids, rows[: len(ids)])


def _sound(ids: list[str], rows: Floats) -> Block:
    """Return those that are neither zero nor infinite."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    sound = np.isfinite(lengths) & (lengths > 0)
    if sound.all():
        return Block(ids, rows, lengths)
    return Block([each for each, good in zip(ids, sound, strict=True) if good], rows[sound], lengths[sound])


def cosines(
    space: EmbeddingSpace, probes: Sequence[Probe], track_ids: Iterable[str], deadline: Deadline
) -> tuple[list[str], Floats]:
    """Return the tracks that have an embedding, ordered by id, and their cosines with the probes: [tracks, probes].

    Raises OutOfTime.
    """
    wanted = np.stack([each.vector for each in probes])
    text = np.array([each.is_text for each in probes])
    head = space.dimension // PARTS
    found: dict[str, Floats] = {}
    with turn(deadline):
        for block in stored(space, track_ids, deadline):
            lengths = np.repeat(block.lengths[:, None], len(probes), axis=1)
            if text.any():
                means = np.linalg.norm(block.rows[:, :head], axis=1)
                lengths[:, text] = np.where(means > 0, means, np.inf)[:, None]
            found.update(zip(block.ids, np.clip(block.rows @ wanted.T / lengths, -1, 1), strict=True))
    ordered = sorted(found)
    return ordered, np.array([found[track_id] for track_id in ordered]).reshape(-1, len(probes))


def gram(space: EmbeddingSpace, track_ids: Iterable[str], deadline: Deadline) -> tuple[list[str], Floats]:
    """Return the tracks that have an embedding, ordered by id, and the cosines between them: [tracks, tracks]."""
    found: dict[str, NDArray[np.float32]] = {}
    with turn(deadline):
        for block in stored(space, track_ids, deadline):
            units = (block.rows / block.lengths[:, None]).astype(np.float32)  # half of the memory
            found.update(zip(block.ids, units, strict=True))
        ordered = sorted(found)
        total = np.zeros((len(ordered), len(ordered)))
        width = max(1, BLOCK_BYTES // (8 * max(1, len(ordered))))
        for start in range(0, space.dimension, width):
            part = np.array([found[track_id][start : start + width] for track_id in ordered], np.float64)
            total += part @ part.T
            deadline.check()
    return ordered, total
