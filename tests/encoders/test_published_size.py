"""The published architectures, with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings.demo import checkpoints as demo
from embeddings.encoders.latent import LatentEncoder, build_network
from embeddings.encoders.mert import MertEncoder
from tests.encoders.audio import noise

MERT_330M = {
    "hidden_size": 1_024,
    "num_attention_heads": 16,
    "intermediate_size": 4_096,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
}


def test_mert_gives_76800_numbers_that_float16_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in MERT_330M.items():
        monkeypatch.setitem(demo.MERT, name, value)
    demo.make_tiny_checkpoint("mert", tmp_path)
    encoder = MertEncoder(str(tmp_path), "cpu")
    encoder.load()
    vector = encoder.embed(noise(encoder.audio, 5)).vector
    assert vector.shape == (encoder.describe().dimension,) == (76_800,)
    assert float(vector @ vector.astype(np.float16).astype(np.float32)) == pytest.approx(1, abs=1e-4)


def test_latent_is_built_from_the_packages_own_numbers(tmp_path: Path):
    torch.save({"gen_state_dict": build_network({}, "UNet").state_dict()}, tmp_path / "music2latent.pt")
    encoder = LatentEncoder(str(tmp_path), "cpu")
    encoder.load()
    assert encoder.bytes_held == pytest.approx(4 * 16.3e6, rel=0.01)  # the encoder alone, of 58.2 million
    assert encoder.embed(noise(encoder.audio, 0.2)).vector.shape == (576,)
