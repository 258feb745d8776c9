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
from embeddings.spaces.rows import rows_of, vector_bytes
from embeddings.spaces.vectors import DTYPES

BLOCK_BYTES = 16 * 2**20  # of vectors as they are stored, at a time
READ_BYTES = 2**20  # of them from the database at a time: so little that its memory is soon used again
CACHED_BYTES = 2**20  # of float64 at a time: a core's cache holds them
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
    unit = np.array(vector, np.float64)
    length = np.linalg.norm(unit)
    if not np.isfinite(length) or length == 0:
        return None
    unit /= length
    return Probe(unit, weight, track_id, prompt)


def as_text(found: Probe) -> Probe:
    """Return the probe as that of a text, when its vector is one: nothing but a mean part."""
    is_text = found.vector.size % PARTS == 0 and not found.vector[found.vector.size // PARTS :].any()
    return Probe(found.vector, found.weight, found.track_id, found.prompt, is_text)


class Block(NamedTuple):
    """Some tracks' embeddings as they are stored: [tracks, dimension]."""

    ids: list[str]
    rows: NDArray[np.floating]


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
    """Yield the embeddings of those tracks that have one, in blocks; one is overwritten by the next.

    No order. Raises OutOfTime.
    """
    dtype, length = DTYPES[encoder_class(space.model).stored_dtype], vector_bytes(space)
    found = rows_of(space).filter(track_id__in=list(track_ids)).values_list("track_id", "vector")
    rows = np.empty((max(1, BLOCK_BYTES // length), space.dimension), dtype)
    ids: list[str] = []
    for track_id, vector in found.iterator(chunk_size=max(1, READ_BYTES // length)):
        if len(vector) != length:
            continue
        rows[len(ids)] = np.frombuffer(vector, dtype)
        ids.append(track_id)
        if len(ids) == len(rows):
            yield Block(ids, rows)
            ids = []
            deadline.check()
    if ids:
        yield Block(ids, rows[: len(ids)])


def cosines(
    space: EmbeddingSpace, probes: Sequence[Probe], track_ids: Iterable[str], deadline: Deadline
) -> tuple[list[str], Floats]:
    """Return the tracks with an embedding neither zero nor infinite, by id, and their cosines: [tracks, probes].

    Raises OutOfTime.
    """
    text = np.array([each.is_text for each in probes])
    head = space.dimension // PARTS
    sounds = np.array([each.vector for each in probes if not each.is_text]).reshape(-1, space.dimension)
    texts = np.array([each.vector[:head] for each in probes if each.is_text]).reshape(-1, head)
    found: dict[str, Floats] = {}
    with turn(deadline):
        for ids, rows in stored(space, track_ids, deadline):
            values = np.zeros((len(ids), len(probes)))
            values[:, ~text], lengths = _compared(rows, sounds)
            if len(texts):
                values[:, text], _ = _compared(rows[:, :head], texts)
            found |= {ids[place]: values[place] for place in _sound(lengths)}
    ordered = sorted(found)
    return ordered, np.array([found[track_id] for track_id in ordered]).reshape(-1, len(probes))


def _compared(rows: NDArray[np.floating], wanted: Floats) -> tuple[Floats, Floats]:
    """Return the rows' cosines with ``wanted``, unit vectors [probes, numbers], and the rows' lengths."""
    products, squares = np.zeros((len(rows), len(wanted))), np.zeros(len(rows))
    with np.errstate(invalid="ignore"):  # of infinite rows
        for start, part in _parts(rows):
            products += part @ wanted[:, start : start + part.shape[1]].T
            squares += np.vecdot(part, part)
        lengths = np.sqrt(squares)
        return np.clip(products / np.where(lengths > 0, lengths, np.inf)[:, None], -1, 1), lengths


def gram(space: EmbeddingSpace, track_ids: Iterable[str], deadline: Deadline) -> tuple[list[str], Floats]:
    """Return the tracks with an embedding neither zero nor infinite, by id, and the cosines between them.

    Raises OutOfTime.
    """
    with turn(deadline), np.errstate(invalid="ignore"):  # of infinite rows
        blocks = [Block(ids, rows.copy()) for ids, rows in stored(space, track_ids, deadline)]
        ids = [track_id for block in blocks for track_id in block.ids]
        products = np.zeros((len(ids), len(ids)))
        for _, part in _parts(np.concatenate([block.rows for block in blocks])) if ids else ():
            products += part @ part.T
            deadline.check()
    lengths = np.sqrt(np.diag(products))
    sound = sorted(_sound(lengths), key=ids.__getitem__)
    return [ids[place] for place in sound], products[np.ix_(sound, sound)] / np.outer(lengths[sound], lengths[sound])


def _parts(rows: NDArray[np.floating]) -> Iterator[tuple[int, Floats]]:
    """Yield some columns of the rows at a time as float64, and the first one's number; overwritten by the next."""
    width = min(rows.shape[1], max(1, CACHED_BYTES // (8 * len(rows))))
    wide = np.empty((len(rows), width))
    for start in range(0, rows.shape[1], width):
        part = wide[:, : rows.shape[1] - start]
        part[:] = rows[:, start : start + width]
        yield start, part


def _sound(lengths: Floats) -> NDArray[np.intp]:
    """Return the places of those that are neither zero nor infinite."""
    return np.flatnonzero(np.isfinite(lengths) & (lengths > 0))
