"""``Encoder.verify``: whether the weights are those of the network, without loading them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embeddings.encoders.base import Encoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import WeightsMissing, WeightsUnusable


@pytest.fixture
def muq(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["muq"], tmp_path / "muq"))


@pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: str(kind.key))
def test_weights_of_the_network_pass_and_are_not_loaded(kind: type[Encoder], checkpoints: dict[str, Path]):
    encoder = kind(str(checkpoints[kind.key]), "cpu")
    encoder.verify()
    assert not encoder.loaded


def test_what_music_does_not_need_but_texts_do_is_looked_for(muq: Path):
    state = load_file(muq / "model.safetensors")
    del state["mulan.text_to_latents.bias"]
    save_file(state, muq / "model.safetensors")
    with pytest.raises(WeightsUnusable, match=r"lacks: text_to_latents\.bias"):
        MuqEncoder(str(muq), "cpu").verify()


def test_another_shape_is_named(checkpoints: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(checkpoints["mert"], tmp_path / "mert"))
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(state | {"encoder.layer_norm.bias": torch.zeros(3)}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsUnusable, match=r"another shape.*encoder\.layer_norm\.bias"):
        MertEncoder(str(folder), "cpu").verify()


def test_absent_weights_are_missing(muq: Path):
    (muq / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match="copy it there"):
        MuqEncoder(str(muq), "cpu").verify()
