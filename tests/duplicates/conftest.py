"""A library whose tracks are real files, with vectors that all lie near each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings.audio.pool import DecodePool
from embeddings.encoders.registry import encoder_class
from embeddings.index.sync import index_pending
from embeddings.models import Track
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.vectors import to_bytes
from navembed_site.demo.encode import write_audio
from tests.batches.rows import make_embedding, make_space, make_track
from tests.milvus import lite_server, milvus
from tests.uploads import pairs

__all__ = ["lite_server", "milvus"]

Add = Callable[..., Track]


@pytest.fixture(scope="module")
def decoders() -> Iterator[DecodePool]:
    pool = DecodePool(1)
    yield pool
    pool.close()


@pytest.fixture
def add(tmp_path: Path, milvus: Any) -> Add:
    """Add a track with this sound; ``away``: how far its vectors are from the others'."""

    def make(name: str, sound: pairs.Sound | None = None, *, away: float = 0.0, **fields: Any) -> Track:
        sound = pairs.piece("techno", 0) if sound is None else sound
        path = tmp_path / name
        if not path.exists():
            write_audio(path, sound, pairs.RATE)
        seconds = sound.shape[1] / pairs.RATE
        track = make_track(path.stem, path=str(path), duration=seconds)
        for model in ("muq", "latent"):
            space = live_space(model) or make_space(model)
            vector = np.eye(space.dimension, dtype=np.float32)[0]
            vector[1] += 0.01 + (away if model == "latent" else 0.0)
            data = to_bytes(vector / np.linalg.norm(vector), encoder_class(model).stored_dtype)
            facts = {"audio_hash": name, "audio_seconds": seconds} | fields
            make_embedding(space, track, vector=data, **facts)
            index_pending(space)
        return track

    return make
