from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.audio.pool import DecodePool
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.pipeline import Pipeline
from embeddings.embedder.work import TrackRequest
from embeddings.encoders.gathering import Items
from embeddings.encoders.registry import ENCODERS, MODEL_KEYS
from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.instances import checkpoints, embedder, embedder_process

__all__ = ["checkpoints", "embedder", "embedder_process"]


class CountingManager(ModelManager):
    """The real one; it remembers the size of each batch by model."""

    batches: dict[str, list[int]]

    def encode(self, key: str, items: Items) -> NDArray[np.float32]:
        self.batches.setdefault(key, []).append(len(items))
        return super().encode(key, items)


def asked(path: Path, *models: str, id: str = "", spool_name: str = "") -> TrackRequest:  # noqa: A002
    return TrackRequest(id or path.name, str(path), models or MODEL_KEYS, spool_name)


@pytest.fixture(scope="session")
def make_manager(checkpoints: dict[str, Path]) -> Callable[..., CountingManager]:
    def make(memory_bytes: float = 1e12) -> CountingManager:
        encoders = {encoder.key: encoder(str(checkpoints[encoder.key]), "cpu") for encoder in ENCODERS}
        manager = CountingManager(encoders, memory_bytes=memory_bytes)
        manager.batches = {}
        return manager

    return make


@pytest.fixture(scope="session")
def loaded_manager(make_manager: Callable[..., CountingManager]) -> CountingManager:
    return make_manager()


@pytest.fixture
def manager(loaded_manager: CountingManager) -> CountingManager:
    """Room for all three; nothing counted yet."""
    loaded_manager.batches.clear()
    return loaded_manager


@pytest.fixture(scope="session")
def pool() -> Iterator[DecodePool]:
    decoders = DecodePool(2, block_seconds=10)
    yield decoders
    decoders.close()


@pytest.fixture
def pipeline(manager: CountingManager, pool: DecodePool, tmp_path: Path) -> Pipeline:
    return Pipeline(manager, pool, tmp_path / "spool")


@pytest.fixture(scope="session")
def songs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files by name: several formats and lengths."""
    folder = tmp_path_factory.mktemp("songs")
    lengths = {"short.wav": 2.5, "song.flac": 12, "window.mp3": 33, "long.m4a": 127}
    for seed, (name, seconds) in enumerate(lengths.items()):
        write_audio(folder / name, tone(seconds, seed=seed), 44_100)
    return {path.name: path for path in folder.iterdir()}
