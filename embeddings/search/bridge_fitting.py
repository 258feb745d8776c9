"""Learns a bridge from the tracks that have an embedding of both models, reading each of them once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np
from django.db.models import Exists, OuterRef, QuerySet
from numpy.typing import NDArray

from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import TEXT_MODEL, encoder_class
from embeddings.errors import TextUnavailable
from embeddings.index.projection import search_dimension, search_vectors
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.search import ridge
from embeddings.search.bridge import Bridge, Origin
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.rows import rows_of
from embeddings.spaces.vectors import from_bytes

FEWEST_TRACKS = 30  # six a fold; worth little, but a query in words gets an answer instead of an error
MOST_TRACKS = 20_000  # beyond that nothing is gained for 512 numbers; hashes are random, so the first are a sample
FOLDS = 5
MOST_KEPT_ASIDE = 2_000
BLOCK = 128  # tracks at a time: 40 MB of MERT
NEAREST = 10

Floats = NDArray[np.float32]


class _Pairs(NamedTuple):
    """Tracks with both embeddings: unit means float32 [n, words], embeddings float32 [n, dimension]."""

    ids: list[str]
    means: Floats
    embeddings: Floats


def fit_bridge(model: str, *, progress: Callable[[int, int], None] = lambda done, tracks: None) -> Bridge:
    """Learn the bridge from words to ``model``'s live space. ``progress(done, tracks)`` is called after each block.

    Memory does not grow with the library: for MERT it takes about 0.75 GB. Raises TextUnavailable with a sentence when
    there is too little to learn from.
    """
    words, space = _live(TEXT_MODEL.audio_model), _live(model)
    tracks = min(MOST_TRACKS, tracks_to_learn_from(words, space))
    if tracks < FEWEST_TRACKS:
        raise TextUnavailable(
            f"{tracks} tracks have both a {words.model} and a {model} embedding; a bridge needs {FEWEST_TRACKS} to "
            "learn from, and is worth little below some thousands"
        )
    learning = _Learning(encoder_class(model), words.dimension // 3, space.dimension)
    for pairs in _pairs(words, space):
        learning.add(pairs)
        progress(learning.whole.count, tracks)
    strength, explained = ridge.choose_strength(learning.folds)
    recall = learning.recall(strength)
    fitted = learning.fitted(strength)
    return Bridge(
        Origin(
            model=model,
            words=words.fingerprint,
            fingerprint=space.fingerprint,
            tracks=learning.whole.count,
            strength=strength,
            explained=explained,
            recall=recall,
            kept_aside=len(learning.aside),
        ),
        fitted.weights.astype(np.float32, copy=False),
        fitted.intercept.astype(np.float32),
    )


def tracks_to_learn_from(words: EmbeddingSpace, space: EmbeddingSpace) -> int:
    """Return how many tracks have an embedding in both spaces."""
    return _with_both(words, space).count()


class _Learning:
    """What is kept of the tracks: moments of all for the bridge itself, and by fold those of the search vectors.

    The penalty is chosen on search vectors, which keep distances and are short; a few tracks are kept whole.
    """

    def __init__(self, encoder: type[Encoder], words: int, dimension: int) -> None:
        self._encoder = encoder
        short = search_dimension(encoder, dimension)
        self.whole = ridge.Moments.zeros(words, dimension, np.float32)
        self.folds = [ridge.Moments.zeros(words, short) for _ in range(FOLDS)]
        self.aside: list[tuple[Floats, Floats]] = []
        self._x, self._y = np.zeros(words, np.float32), np.zeros(dimension, np.float32)

    def add(self, pairs: _Pairs) -> None:
        x, y = pairs.means, pairs.embeddings
        if not self.whole.count:
            # Embeddings share a large mean; summed up in float32 it would cost the digits in which they differ.
            self._x, self._y = x.mean(axis=0), y.mean(axis=0)
        folds = (self.whole.count + np.arange(len(x))) % FOLDS  # in the order of hashes: of equal size, always the same
        self.whole.add(x - self._x, y - self._y)
        short = search_vectors(self._encoder, y)
        for number, fold in enumerate(self.folds):
            fold.add(x[folds == number], short[folds == number])
        room = MOST_KEPT_ASIDE - len(self.aside)
        self.aside += list(zip(x[folds == 0], short[folds == 0], strict=True))[:room]

    def fitted(self, strength: float) -> ridge.Ridge:
        weights, intercept = ridge.solve(self.whole, strength)
        return ridge.Ridge(weights, intercept + self._y - self._x @ weights)

    def recall(self, strength: float) -> float:
        """Share of the tracks kept aside that are among those nearest to what a bridge without them makes of them."""
        unseen = ridge.solve(reduce(add, self.folds[1:]), strength)
        x, y = (np.stack(rows) for rows in zip(*self.aside, strict=True))
        predicted = unseen.predict(x)
        cosines = (predicted / np.linalg.norm(predicted, axis=1, keepdims=True)) @ y.T
        better = (cosines > np.diag(cosines)[:, None]).sum(axis=1)
        return float((better < NEAREST).mean())


def _live(model: str) -> EmbeddingSpace:
    space = live_space(model)
    if space is None:
        raise TextUnavailable(f"nothing has been embedded with {model} yet")
    return space


def _with_both(words: EmbeddingSpace, space: EmbeddingSpace) -> QuerySet[Embedding]:
    """The embeddings in ``space`` of tracks that have one in ``words``, too."""
    return rows_of(space).filter(Exists(rows_of(words).filter(track=OuterRef("track"))))


def _pairs(words: EmbeddingSpace, space: EmbeddingSpace) -> Iterator[_Pairs]:
    """Yield tracks with both embeddings, some at a time, by the hashes of their audio: new ids do not change these."""
    keys = list(_with_both(words, space).order_by("audio_hash", "pk").values_list("pk", flat=True)[:MOST_TRACKS])
    for start in range(0, len(keys), BLOCK):
        page = rows_of(space).filter(pk__in=keys[start : start + BLOCK]).order_by("audio_hash", "pk")
        embeddings = dict(page.values_list("track_id", "vector"))
        heard = dict(rows_of(words).filter(track__in=embeddings).values_list("track_id", "vector"))
        ids = [track_id for track_id in embeddings if track_id in heard]
        if ids:
            means = _rows(words, heard, ids)[:, : words.dimension // 3]
            yield _Pairs(ids, _unit(means), _unit(_rows(space, embeddings, ids)))


def _rows(space: EmbeddingSpace, stored: Mapping[str, bytes | memoryview], ids: list[str]) -> Floats:
    dtype = encoder_class(space.model).stored_dtype
    return np.stack([from_bytes(stored[track_id], dtype, space.dimension) for track_id in ids])


def _unit(rows: Floats) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
