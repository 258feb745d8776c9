"""One model's candidates: found by Milvus, then compared exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.index.projection import search_vectors
from embeddings.index.sync import vector_store
from embeddings.models import EmbeddingSpace
from embeddings.search.calibration import Calibration, calibration_of, sampled
from embeddings.search.comparing import Probe, cosines
from embeddings.search.deadline import Deadline
from embeddings.search.seeds import DIGITS, Group
from embeddings.spaces.rows import vector_bytes

if TYPE_CHECKING:
    from embeddings.index.store import Hit

FEWEST_CANDIDATES = 100  # of a model
MOST_BYTES = 40 * 2**20  # of candidates' vectors, which are read from the database: 273 of MERT's
FEWEST_OF_A_GROUP = 50
MOST_NAMED = 1_000  # excluded ids in an expression: Milvus reads 50,000 of them for seconds
MOST_LOOKED_THROUGH = 1_000  # tracks near a group, among which the others are looked for first
CANCELLED = 1e-6  # a group whose seeds add up to less says nothing
CLOSE = 0.95  # calibrated: a track that is less like a disliked one is not like it


class Found(NamedTuple):
    """What a model says of a track."""

    score: float
    """Calibrated similarity to the best group, 0 to 1."""
    closest: Probe
    """The seed of that group that it is most like."""
    closeness: float
    """0 to 1, to the most similar disliked track; 0 when none is close."""


@dataclass(frozen=True, eq=False)
class Ready:
    """A model that can search: its space, and its own vectors of all that the query names."""

    space: EmbeddingSpace
    seeds: list[Probe]
    groups: list[Group]
    disliked: list[Probe]
    calibration: Calibration


def enough_candidates(space: EmbeddingSpace, limit: int, *, is_alone: bool, times: int = 1) -> int:
    """Return how many tracks a model looks at for a list of ``limit``: more when no other model adds to them.

    ``times``: so often as many.
    """
    wanted = 2 * limit if is_alone else limit + FEWEST_OF_A_GROUP
    return min(times * max(wanted, FEWEST_CANDIDATES), MOST_BYTES // vector_bytes(space))


def candidates(
    ready: Ready, wanted: int, *, exclude: AbstractSet[str], library_ids: Collection[int] | None, seconds: float
) -> list[str]:
    """Return at most ``wanted`` tracks, those that Milvus finds nearest to any group. Touches no database.

    Raises IndexUnavailable, IndexRefused; takes about ``seconds`` at most.
    """
    sums = [group.query(ready.seeds) for group in ready.groups]
    lengths = np.array([np.linalg.norm(each) for each in sums])
    heard = lengths > CANCELLED
    if not heard.any():
        return []
    queries = search_vectors(encoder_class(ready.space.model), np.stack(sums)[heard].astype(np.float32))
    of_each = max(wanted // len(queries), FEWEST_OF_A_GROUP)  # Lite makes much of every hit
    hits = _nearest(ready.space.collection, queries, of_each, exclude=exclude, library_ids=library_ids, seconds=seconds)
    best: dict[str, float] = {}
    for found, length in zip(hits, lengths[heard], strict=True):
        for hit in found:
            best[hit.track_id] = max(best.get(hit.track_id, -np.inf), hit.score * length)
    return sorted(best, key=lambda track_id: (-best[track_id], track_id))[:wanted]


def _nearest(
    collection: str,
    queries: NDArray[np.float32],
    limit: int,
    *,
    exclude: AbstractSet[str],
    library_ids: Collection[int] | None,
    seconds: float,
) -> list[list[Hit]]:
    """Return the ``limit`` nearest tracks of each query that are not excluded.

    Many excluded ids are taken out here, of more hits than are wanted. Only where too little is left does Milvus get
    to read all of them.
    """
    from navembed_site.names import can_be_id

    store = vector_store(timeout=seconds, write_timeout=seconds, connect_pauses=())
    if len(exclude) > MOST_NAMED:
        near = store.search_all(collection, queries, MOST_LOOKED_THROUGH, library_ids=library_ids)
        left = [[hit for hit in hits if hit.track_id not in exclude] for hits in near]
        if all(len(some) >= limit or len(hits) < MOST_LOOKED_THROUGH for some, hits in zip(left, near, strict=True)):
            return [some[:limit] for some in left]
    return store.search_all(collection, queries, limit, exclude=filter(can_be_id, exclude), library_ids=library_ids)


def compared(
    ready: Ready, track_ids: Collection[str], measures: Sequence[Calibration], deadline: Deadline
) -> dict[str, Found]:
    """Return what the model's full vectors say of the candidates; ``measures`` are the groups'. Raises OutOfTime."""
    seeds, groups = ready.seeds, ready.groups
    ids, found = cosines(ready.space, [*seeds, *ready.disliked], track_ids, deadline)
    to_seeds, to_disliked = found[:, : len(seeds)], found[:, len(seeds) :]
    shares = [measure.share(group.means(to_seeds)) for group, measure in zip(groups, measures, strict=True)]
    scores = np.stack(shares, axis=1)
    best = np.round(scores, DIGITS).argmax(axis=1)
    close = np.clip((ready.calibration.share(to_disliked) - CLOSE) / (1 - CLOSE), 0, 1).max(axis=1, initial=0)
    answer = {}
    for row, track_id in enumerate(ids):
        members = groups[best[row]].members
        closest = members[int(np.round(to_seeds[row, members], DIGITS).argmax())]
        answer[track_id] = Found(float(scores[row, best[row]]), seeds[closest], float(close[row]))
    return answer


def group_calibrations(
    space: EmbeddingSpace,
    seeds: Sequence[Probe],
    groups: Sequence[Group],
    calibration: Calibration,
    deadline: Deadline,
) -> list[Calibration]:
    """Return what each group's cosines are measured by: the space's pairs, a text's by those with its sample."""
    texts = [group for group in groups if seeds[group.members[0]].is_text]
    if not texts:
        return [calibration] * len(groups)
    _, found = cosines(space, seeds, sampled(space), deadline)
    return [
        (calibration_of(group.means(found)) if seeds[group.members[0]].is_text else calibration) for group in groups
    ]
