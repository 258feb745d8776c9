"""How many of the true neighbours search finds in an instance: run in a process of that instance."""

from __future__ import annotations

import numpy as np

from embeddings.encoders.registry import encoder_class
from embeddings.search.neighbours import embedding_in, nearest_to_track
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.vectors import from_bytes

NEIGHBOURS = 10
BLOCK = 200


def recall(model: str, queries: int = 50) -> float:
    """Return the share of the ten nearest by brute force over the database that search finds, too."""
    space = live_space(model)
    assert space
    dtype = encoder_class(model).stored_dtype
    ids = list(space.embeddings.order_by("pk").values_list("track_id", flat=True))
    asked = [ids[place] for place in np.linspace(0, len(ids) - 1, queries).astype(int)]
    wanted = np.stack([embedding_in(space, track_id) for track_id in asked])
    cosines = []
    for start in range(0, len(ids), BLOCK):
        rows = space.embeddings.filter(track_id__in=ids[start : start + BLOCK]).order_by("pk")
        block = np.stack([from_bytes(row, dtype, space.dimension) for row in rows.values_list("vector", flat=True)])
        cosines.append(block @ wanted.T / np.linalg.norm(block, axis=1, keepdims=True))
    hits = 0
    for track_id, column in zip(asked, np.concatenate(cosines).T, strict=True):
        column[ids.index(track_id)] = -np.inf
        true = {ids[place] for place in np.argpartition(-column, NEIGHBOURS)[:NEIGHBOURS]}
        hits += len(true & {found.track_id for found in nearest_to_track(model, track_id, NEIGHBOURS)})
    return hits / (NEIGHBOURS * queries)
