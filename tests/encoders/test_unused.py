"""Weights files with less or more than a vector needs: what is unused is not asked for, what is derived is ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from embeddings.encoders.base import Encoder, Model
from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import ENCODERS, encoder_class
from embeddings.weights.tensors import DERIVED
from tests.encoders import twins
from tests.encoders.audio import noise

WEIGHTS = {"muq": "pytorch_model.bin", "mert": "pytorch_model.bin", "latent": "music2latent.pt"}
KEYS = [encoder.key for encoder in ENCODERS]
MORE = {
    "muq": (
        "mulan.audio.model.model.preprocessor_melspec_2048.mel_stft.spectrogram.window",
        "mulan.audio.model.model.preprocessor_melspec_2048.mel_stft.mel_scale.fb",
        "mulan.audio.model.model.conformer.embed_positions.inv_freq",
        "mulan.text.model.embeddings.position_ids",
    ),
    "mert": ("encoder.embed_positions.inv_freq", "masked_spec_embed", "final_proj.weight"),
    "latent": ("encoder.down_layers.0.norm1.num_batches_tracked",),
}


class Seen(TorchDispatchMode):
    """Notes where in memory the numbers lie that anything is computed from."""

    def __init__(self) -> None:
        super().__init__()
        self.places: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self.places.add(tensor.untyped_storage().data_ptr())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return twins.make_offline_twin(request.getfixturevalue("key"), tmp_path)


def embed(key: str, folder: Path) -> Any:
    encoder = encoder_class(key)(str(folder), "cpu")
    encoder.load()
    return encoder.embed(noise(encoder.audio, 2)).vector


def rewrite(key: str, folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = folder / WEIGHTS[key]
    content = torch.load(path, weights_only=False)
    torch.save({"gen_state_dict": change(content["gen_state_dict"])} if key == "latent" else change(content), path)


def hear(encoder: Encoder) -> None:
    encoder.encode(noise(encoder.audio, 1)[None] if encoder.audio.channels == 2 else noise(encoder.audio, 1))


def read(model: MuqText) -> None:
    words = model._network["text"](raw_texts=["calm piano"])
    model._network["text_to_latents"](words)


@pytest.mark.parametrize(
    ("kind", "use"), [*((kind, hear) for kind in ENCODERS), (MuqText, read)], ids=[*KEYS, MuqText.key]
)
def test_every_weight_that_is_asked_for_is_used(kind: type[Model], use: Callable[[Any], None], tmp_path: Path):
    model = kind(str(twins.make_offline_twin(getattr(kind, "audio_model", kind.key), tmp_path)), "cpu")
    model._network = Model._load(model)
    with Seen() as seen:
        use(model)
    state = model._network.state_dict()
    unused = {name for name, tensor in state.items() if tensor.untyped_storage().data_ptr() not in seen.places}
    assert not [name for name in unused if not DERIVED.search(name)]


@pytest.mark.parametrize("key", KEYS)
def test_without_what_is_not_used_a_file_gives_the_same_vector(key: str, folder: Path):
    before, kinds = embed(key, folder), [encoder_class(key), *([MuqText] if key == "muq" else [])]

    def only_used(state: dict[str, Any]) -> dict[str, Any]:
        return {k.tensors.prefix + name: tensor for k in kinds for name, tensor in k.tensors.of(state).items()}

    rewrite(key, folder, only_used)
    np.testing.assert_array_equal(embed(key, folder), before)
    encoder_class(key)(str(folder), "cpu").verify()


@pytest.mark.parametrize("key", KEYS)
def test_with_what_is_derived_or_only_for_training_a_file_gives_the_same_vector(key: str, folder: Path):
    before = embed(key, folder)
    rewrite(key, folder, lambda state: state | {name: torch.full((3,), torch.nan) for name in MORE[key]})
    np.testing.assert_array_equal(embed(key, folder), before)
    encoder_class(key)(str(folder), "cpu").verify()
