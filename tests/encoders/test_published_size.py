"""Music2Latent as published, with random weights; MERT's way is tested in tests/index."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from embeddings.encoders.latent import LatentEncoder, build_network
from tests.encoders.audio import noise


def test_latent_is_built_from_the_packages_own_numbers(tmp_path: Path):
    torch.save({"gen_state_dict": build_network({}, "UNet").state_dict()}, tmp_path / "music2latent.pt")
    encoder = LatentEncoder(str(tmp_path), "cpu")
    encoder.load()
    assert encoder.bytes_held == pytest.approx(4 * 16.3e6, rel=0.01)  # the encoder alone, of 58.2 million
    assert encoder.embed(noise(encoder.audio, 0.2)).vector.shape == (576,)
