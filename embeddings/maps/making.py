"""Makes the pictures of the spaces that search uses, and makes them again when the library has changed."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.maps import layout
from embeddings.maps.vectors import Floats, blocks, keys_of
from embeddings.models import EmbeddingSpace, SpaceMap
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.rows import rows_of, vector_bytes

logger = logging.getLogger(__name__)

MOST_TRACKS = 100_000  # as many points as a browser moves fluently; of larger libraries a sample is shown
SAMPLE = 1_000  # from which the axes are learnt: with 2,048 numbers each it takes a second
COMPONENTS = 50
CHANGED = 0.02  # of the tracks: then it is made again
SKETCH_BYTES = 48 * 2**20  # that somebody who waits for a page lets us read


def maps_due() -> list[EmbeddingSpace]:
    """Return the live spaces without a picture, or with one of clearly more or fewer tracks than they have now."""
    return [space for model in MODEL_KEYS if (space := live_space(model)) and _is_due(space)]


def make_due_maps() -> Iterator[SpaceMap]:
    """Make what is due, yielding each picture when it can be seen."""
    for space in maps_due():
        yield make_map(space)
        logger.info("there is a new map of %s", space)


def make_map(space: EmbeddingSpace) -> SpaceMap:
    """Make a space's picture, reading each vector once; memory grows by 200 bytes a track, and by what UMAP takes."""
    keys, components = _components(space, keys_of(space, MOST_TRACKS), COMPONENTS)
    drawn = b""
    if len(keys) >= layout.FEWEST_FOR_UMAP:
        drawn = _bytes(layout.umap(components))
    made, _ = SpaceMap.objects.update_or_create(
        space=space,
        defaults={
            "tracks": len(keys),
            "keys": np.array(keys, "<i8").tobytes(),
            "pca": _bytes(components[:, :2]),
            "umap": drawn,
            "clusters": layout.clusters(components).tobytes(),
        },
    )
    return made


def sketch(space: EmbeddingSpace) -> SpaceMap:
    """Return a picture that is quickly made and not kept: of a sample, where the library is large."""
    most = min(MOST_TRACKS, SKETCH_BYTES // vector_bytes(space))
    keys, components = _components(space, keys_of(space, most), 2)
    stored = np.array(keys, "<i8").tobytes()
    return SpaceMap(space=space, tracks=len(keys), keys=stored, pca=_bytes(components), umap=b"", clusters=b"")


def _is_due(space: EmbeddingSpace) -> bool:
    tracks = min(MOST_TRACKS, rows_of(space).count())
    known = SpaceMap.objects.filter(space=space).values_list("tracks", flat=True).first()
    return bool(tracks) if known is None else abs(tracks - known) > CHANGED * known


def _components(space: EmbeddingSpace, keys: list[int], count: int) -> tuple[list[int], Floats]:
    """Return the keys of the sound embeddings among these, and where they lie on the axes: float32 [n, count]."""
    step = max(1, len(keys) // SAMPLE)
    learnt = [block.rows for block in blocks(space, keys[::step][:SAMPLE])]
    if not learnt:
        return [], np.zeros((0, count), np.float32)
    axes = layout.principal_axes(np.concatenate(learnt), count)
    found: list[int] = []
    places = []
    for block in blocks(space, keys):
        found += block.keys
        places.append(axes.places(block.rows))
    return found, np.concatenate(places)


def _bytes(places: Floats) -> bytes:
    return layout.framed(places).astype("<f4").tobytes() if len(places) else b""
