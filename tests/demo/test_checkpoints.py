"""Tiny checkpoints: small, repeatable, and of use for comparing music."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embeddings.encoders.base import Encoder, Waveform
from embeddings.encoders.registry import ENCODERS
from navembed_site.demo.checkpoints import make_tiny_checkpoints
from tests.encoders.audio import piece

KINDS = [
    {"pitch": 110.0, "beat": 2.0, "grit": 0.001},
    {"pitch": 880.0, "beat": 0.3, "grit": 0.001},
    {"pitch": 220.0, "beat": 6.0, "grit": 0.1},
    {"pitch": 55.0, "beat": 4.0, "grit": 0.02},
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_tiny_checkpoints(tmp_path_factory.mktemp("checkpoints"))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_one_seed_gives_the_same_bytes_and_another_does_not(folders: dict[str, Path], tmp_path: Path):
    first = files(folders["muq"].parent)
    assert files(make_tiny_checkpoints(tmp_path / "a")["muq"].parent) == first
    other = files(make_tiny_checkpoints(tmp_path / "b", seed=1)["muq"].parent)
    assert all(other[name] != first[name] for name in first if name.endswith((".safetensors", ".bin", ".pt")))


def test_they_are_small(folders: dict[str, Path]):
    assert sum(len(content) for content in files(folders["muq"].parent).values()) < 3 * 2**20


def encoded_twice(waveform: Waveform, seed: int) -> Waveform:
    """What a lossy codec does: small noise and a little less treble."""
    smooth = 0.97 * waveform + 0.03 * np.roll(waveform, 1, axis=1)
    return np.asarray(smooth + 1e-4 * np.random.default_rng(seed).standard_normal(waveform.shape), np.float32)


@pytest.mark.parametrize("kind", ENCODERS, ids=lambda kind: str(kind.key))
def test_two_encodings_of_a_piece_find_each_other_first(kind: type[Encoder], folders: dict[str, Path]):
    encoder = kind(str(folders[kind.key]), "cpu")
    encoder.load()
    pieces = [piece(kind.audio, 12, **sound, seed=number) for number, sound in enumerate(KINDS)]
    pieces += [encoded_twice(waveform, number) for number, waveform in enumerate(pieces)]
    vectors = np.stack([encoder.embed(waveform).vector for waveform in pieces])
    nearest = np.argmax(vectors @ vectors.T - 2 * np.eye(len(pieces)), axis=1)
    assert nearest.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


def test_no_word_is_unknown_to_the_tokenizer(folders: dict[str, Path]):
    from transformers import PreTrainedTokenizerFast

    path = folders["muq"] / "tiny-xlm-roberta" / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), unk_token="<unk>", pad_token="<pad>")
    ids = [tuple(tokenizer(text)["input_ids"]) for text in ("calm piano", "zünftige Blasmusik", "静かな夜")]
    assert len(set(ids)) == 3
    assert all(tokenizer.unk_token_id not in sequence for sequence in ids)
    assert all(sequence[0] == 0 and sequence[-1] == 2 for sequence in ids)


def test_the_text_tower_of_the_checkpoint_answers(folders: dict[str, Path]):
    import json

    import torch

    from embeddings.encoders.muq_network import text_tower
    from embeddings.encoders.muq_text import MuqText
    from embeddings.weights.tensors import load_strictly, read_tensors

    folder = folders["muq"]
    configs = [json.loads((path / "config.json").read_text()) for path in (folder, folder / "tiny-xlm-roberta")]
    tower, path = text_tower(*configs), folder / "model.safetensors"
    load_strictly(tower, read_tensors(path, MuqText.tensors), path)
    states = tower["text"].eval().model(torch.tensor([[0, 7, 2]])).last_hidden_state
    assert states.shape == (1, 3, 16)
