"""How well and how fast the index finds neighbours, against brute force, on clustered synthetic embeddings."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import Encoder
from embeddings.index.projection import is_projected, search_dimension, search_vectors
from embeddings.index.sync import vector_store
from embeddings.search.retrieval import FEWEST_CANDIDATES
from embeddings.spaces.vectors import DTYPES

BLOCK = 200  # rows of one upsert and flush, as in a job
NEIGHBOURS = 10
ROWS_PER_CLUSTER = 50
FREEDOM = 32  # dimensions in which the rows of a cluster differ

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class IndexFigures:
    """Of one model. Times are means in milliseconds; they compare within one run only."""

    model: str
    dimension: int
    search_dimension: int
    rows: int
    recall: float
    """Share of the true ten nearest that a search finds."""
    project_ms: float
    """From one embedding to its search vector."""
    insert_ms: float
    """One row, upserted and flushed with a block of others."""
    search_ms: float
    rank_ms: float
    """Exact ranking of one search's candidates, where search vectors are projections."""
    brute_force_ms: float
    """NumPy, over the search vectors in memory."""


def measure(encoder: type[Encoder], *, rows: int, queries: int = 50) -> IndexFigures:
    """Fill a collection of our own with ``rows`` embeddings, search it, and drop it.

    Embeddings lie in a temporary file, only search vectors in memory. Raises IndexUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="navembed-") as folder:
        shape = (rows, encoder.published_dimension)
        stored = np.memmap(Path(folder) / "embeddings", DTYPES[encoder.stored_dtype], "w+", shape=shape)
        return _Run(encoder, stored, queries).figures()


def clustered(count: int, dimension: int, *, seed: int = 0) -> Iterator[Floats]:
    """Yield blocks of unit vectors, float32 [≤ 200, dimension]: clusters of 50 around a common direction.

    The mean cosine between two of them is about 0.7, as it is high between embeddings of music.
    """
    random = np.random.default_rng(seed)

    def directions(number: int) -> Floats:
        return random.standard_normal((number, dimension), np.float32) / np.float32(np.sqrt(dimension))

    common, basis = directions(1), directions(FREEDOM)
    centres = directions(max(1, count // ROWS_PER_CLUSTER))
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        within = random.standard_normal((size, FREEDOM), np.float32) / np.float32(np.sqrt(FREEDOM))
        block = common + 0.5 * centres[random.integers(len(centres), size=size)] + 0.4 * within @ basis
        block += 0.1 * directions(size)
        yield block / np.linalg.norm(block, axis=1, keepdims=True)


class _Run:
    """One measurement, step by step."""

    def __init__(self, encoder: type[Encoder], stored: NDArray[np.floating], queries: int) -> None:
        self.encoder = encoder
        self.stored = stored
        self.rows, self.dimension = stored.shape
        self.short = np.empty((self.rows, search_dimension(encoder, self.dimension)), np.float32)
        self.queries = np.linspace(0, self.rows - 1, min(queries, self.rows)).astype(int)
        self.seconds = dict.fromkeys(("project", "insert", "search", "rank", "brute force"), 0.0)

    def figures(self) -> IndexFigures:
        self._generate()
        found = self._found()
        hits = sum(len(found[i] & best) for i, best in enumerate(self._true()))
        self._brute_force()
        per_row, per_query = 1000 / self.rows, 1000 / len(self.queries)
        return IndexFigures(
            model=self.encoder.key,
            dimension=self.dimension,
            search_dimension=self.short.shape[1],
            rows=self.rows,
            recall=hits / (NEIGHBOURS * len(self.queries)),
            project_ms=self.seconds["project"] * per_row,
            insert_ms=self.seconds["insert"] * per_row,
            search_ms=self.seconds["search"] * per_query,
            rank_ms=self.seconds["rank"] * per_query,
            brute_force_ms=self.seconds["brute force"] * per_query,
        )

    def _generate(self) -> None:
        start = 0
        for block in clustered(self.rows, self.dimension):
            part = slice(start, start + len(block))
            self.stored[part] = block
            with self._timed("project"):
                self.short[part] = search_vectors(self.encoder, self._embeddings(part))
            start += len(block)

    def _found(self) -> list[set[int]]:
        """Fill a collection and search it: per query the rows found, without the query's own."""
        from embeddings.index.store import IndexRow

        store, name, width = vector_store(), f"navembed_benchmark_{secrets.token_hex(4)}", self.short.shape[1]
        store.ensure_collection(name, width)
        try:
            for start in range(0, self.rows, BLOCK):
                block = enumerate(self.short[start : start + BLOCK], start)
                rows = [IndexRow(str(number), "", 1, vector) for number, vector in block]
                with self._timed("insert"):
                    store.upsert(name, rows, dimension=width)
                    store.flush(name)
            approximate = is_projected(self.encoder, self.dimension)
            limit = FEWEST_CANDIDATES if approximate else NEIGHBOURS
            store.search(name, self.short[0], limit)  # the first one opens things
            found = []
            for query in self.queries:
                with self._timed("search"):
                    hits = store.search(name, self.short[query], limit, exclude=[str(query)])
                numbers = np.array([int(hit.track_id) for hit in hits])
                found.append(set(self._ranked(query, numbers).tolist() if approximate else numbers.tolist()))
            return found
        finally:
            store.drop(name)

    def _ranked(self, query: int, candidates: NDArray[np.int_]) -> NDArray[np.int_]:
        with self._timed("rank"):
            cosines = self._embeddings(candidates) @ self._embeddings(query)
            return candidates[np.argsort(-cosines)[:NEIGHBOURS]]

    def _true(self) -> Iterator[set[int]]:
        """Per query the rows whose embeddings are nearest, by brute force over them all."""
        wanted = self._embeddings(self.queries)
        blocks = range(0, self.rows, BLOCK)
        cosines = np.concatenate([self._embeddings(slice(start, start + BLOCK)) @ wanted.T for start in blocks])
        cosines[self.queries, np.arange(len(self.queries))] = -np.inf
        for column in cosines.T:
            yield set(np.argpartition(-column, NEIGHBOURS)[:NEIGHBOURS].tolist())

    def _brute_force(self) -> None:
        for query in self.queries:
            with self._timed("brute force"):
                np.argpartition(-(self.short @ self.short[query]), NEIGHBOURS)

    def _embeddings(self, which: int | slice | NDArray[np.int_]) -> Floats:
        embeddings: Floats = self.stored[which].astype(np.float32)
        embeddings /= np.linalg.norm(embeddings, axis=-1, keepdims=True)
        return embeddings

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[what] += time.perf_counter() - began
