"""MERT from five seconds of sound to a ranked answer, as deep and wide as published (24 layers, 1,024), with random
weights; without its feed-forward parts, which are two thirds of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embeddings.encoders.mert import MertEncoder
from embeddings.index.sync import index_pending
from embeddings.models import Embedding
from embeddings.search.neighbours import nearest_in
from embeddings.spaces.lifecycle import space_for
from navembed_site.demo import checkpoints
from tests.encoders.audio import noise
from tests.index.test_indexing import embed
from tests.milvus import LiteServer

PUBLISHED = {
    "hidden_size": 1_024,
    "num_attention_heads": 16,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


@pytest.mark.django_db
def test_a_clip_becomes_76800_numbers_that_are_stored_found_and_ranked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, milvus: LiteServer
) -> None:
    for name, value in PUBLISHED.items():
        monkeypatch.setitem(checkpoints.MERT, name, value)
    checkpoints.make_tiny_checkpoint("mert", tmp_path)
    encoder = MertEncoder(str(tmp_path), "cpu")
    encoder.load()
    vector = encoder.embed(noise(encoder.audio, 5)).vector
    space = space_for("mert", encoder.describe())

    # Neighbours at known distances from it: t0 is the clip itself.
    drift = np.random.default_rng(0).normal(size=vector.shape).astype(np.float32) / np.sqrt(vector.size)
    others = [vector + 0.1 * step * drift for step in range(1, 30)]
    embed(space, np.stack([vector, *(other / np.linalg.norm(other) for other in others)]), dtype="float16")
    assert index_pending(space) == 30

    found = nearest_in(space, vector, limit=5)
    assert space.dimension == 76_800
    assert len(Embedding.objects.get(track_id="t0").vector) == 2 * 76_800
    assert [neighbour.track_id for neighbour in found] == ["t0", "t1", "t2", "t3", "t4"]
    exact = [float(vector @ other / np.linalg.norm(other)) for other in [vector, *others[:4]]]
    assert [neighbour.score for neighbour in found] == pytest.approx(exact, abs=1e-4)
