"""Exact cosines between stored embeddings and what they are compared with. All arithmetic is float64."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search.deadline import Deadline
from embeddings.vectors import DTYPES

BLOCK_BYTES = 16 * 2**20  # of float64 at a time
PARTS = 3  # of an embedding: mean, spread, mean difference (embeddings.pooling)

Floats = NDArray[np.float64]


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


def stored(space: EmbeddingSpace, track_ids: Iterable[str], deadline: Deadline) -> Iterator[tuple[list[str], Floats]]:
    """Yield the tracks' embeddings in blocks: ids, and float64 [≤ block, dimension] as stored, about unit length.

    Tracks without a sound embedding are left out; no order. Raises OutOfTime.
    """
    dtype = DTYPES[encoder_class(space.model).stored_dtype]
    size = max(1, BLOCK_BYTES // (8 * space.dimension))
    rows = space.embeddings.exclude(index_state=Embedding.IndexState.DELETING).filter(track_id__in=list(track_ids))
    ids: list[str] = []
    data: list[bytes | memoryview] = []
    for track_id, vector in rows.values_list("track_id", "vector").iterator(chunk_size=size):
        if len(vector) != space.dimension * dtype.itemsize:
            continue
        ids.append(track_id)
        data.append(vector)
        if len(ids) == size:
            yield _sound(ids, data, dtype)
            ids, data = [], []
            deadline.check()
    if ids:
        yield _sound(ids, data, dtype)


def _sound(
    ids: list[str], data: Sequence[bytes | memoryview], dtype: np.dtype[np.floating]
) -> tuple[list[str], Floats]:
    rows = np.frombuffer(b"".join(data), dtype).reshape(len(ids), -1).astype(np.float64)
    lengths = np.einsum("ij,ij->i", rows, rows)
    sound = np.isfinite(lengths) & (lengths > 0)
    if sound.all():
        return ids, rows
    return [track_id for track_id, good in zip(ids, sound, strict=True) if good], rows[sound]


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
    for ids, rows in stored(space, track_ids, deadline):
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        lengths = np.repeat(lengths[:, None], len(probes), axis=1)
        if text.any():
            means = np.linalg.norm(rows[:, :head], axis=1)
            lengths[:, text] = np.where(means > 0, means, np.inf)[:, None]
        found.update(zip(ids, np.clip(rows @ wanted.T / lengths, -1, 1), strict=True))
    ordered = sorted(found)
    return ordered, np.array([found[track_id] for track_id in ordered]).reshape(-1, len(probes))


def gram(space: EmbeddingSpace, track_ids: Iterable[str], deadline: Deadline) -> tuple[list[str], Floats]:
    """Return the tracks that have an embedding, ordered by id, and the cosines between them: [tracks, tracks]."""
    found: dict[str, NDArray[np.float32]] = {}
    for ids, rows in stored(space, track_ids, deadline):
        unit = rows / np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        found.update(zip(ids, unit.astype(np.float32), strict=True))  # half of the memory
    ordered = sorted(found)
    total = np.zeros((len(ordered), len(ordered)))
    width = max(1, BLOCK_BYTES // (8 * max(1, len(ordered))))
    for start in range(0, space.dimension, width):
        part = np.array([found[track_id][start : start + width] for track_id in ordered], np.float64)
        total += part @ part.T
        deadline.check()
    return ordered, total
