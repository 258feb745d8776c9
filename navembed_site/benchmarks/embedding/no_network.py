"""The embedder's own work for a track, without that of the networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.pipeline import Pipeline
from embeddings.encoders.base import Encoder
from embeddings.encoders.gathering import Items
from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import MuqEncoder
from navembed_site.benchmarks.embedding.machine import memory_of

if TYPE_CHECKING:
    from navembed_site.benchmarks.embedding.measure import Bench

ROWS: dict[str, tuple[int, ...]] = {
    MuqEncoder.key: (512,),
    MertEncoder.key: (25_600,),
    LatentEncoder.key: (2, 64, 107),
}
"""Shapes of an item's row with the published networks."""


def device_thread_seconds(made: Bench, path: Path, keys: Sequence[str]) -> float:
    """Return the CPU time of the device's thread and of the one that feeds it, for a file."""
    from navembed_site.benchmarks.embedding.measure import _request

    of_the_device: list[float] = []
    encoders = {key: _without_network(made.encoders[key], of_the_device) for key in keys}
    manager = ModelManager(encoders, memory_bytes=1e15, idle_seconds=1e9)
    pipeline = Pipeline(manager, made.pool, made.spool)
    with memory_of(ours=True):
        began = time.thread_time()
        for _ in pipeline.embed([_request(path, keys)]):
            pass
        return time.thread_time() - began + sum(of_the_device)


def _without_network(encoder: Encoder, taken: list[float]) -> Encoder:
    """Return an encoder of this kind that takes items as on a GPU, also where there is none, and computes nothing.

    Adds to ``taken`` the CPU seconds of each batch.
    """
    rows = np.random.default_rng(0).normal(0, 1, (encoder.batch_size, *ROWS[encoder.key])).astype(np.float32)

    nothing = type(encoder)(encoder.source, "meta" if encoder.device == "cpu" else encoder.device)

    def encode(items: Items) -> NDArray[np.float32]:
        began = time.thread_time()
        nothing.gatherer.views(items)
        taken.append(time.thread_time() - began)
        return rows[: len(items)]

    nothing._network = _Nothing()
    nothing.encode = encode  # type: ignore[method-assign]
    return nothing


class _Nothing:
    """Stands where the network would: the model counts as loaded."""

    def parameters(self) -> list[object]:
        return []

    buffers = parameters
