"""MuQ-MuLan's text half alone, against the package's own way on the same weights."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.muq_text import MuqText
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights import locate
from tests.encoders import reference

PROMPTS = ["calm piano", "zünftige Blasmusik", "静かな夜に聴く音楽", "موسيقى هادئة", "спокойная музыка 🎹", "a"]
TEXT_PART = "tiny-xlm-roberta"


def loaded(folder: Path | str) -> MuqText:
    model = MuqText(str(folder), "cpu")
    model.load()
    return model


@pytest.fixture(scope="module")
def model(checkpoints: dict[str, Path]) -> MuqText:
    return loaded(checkpoints["muq"])


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["muq"], tmp_path / "muq"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompts_vector_is_that_of_the_package(prompt: str, model: MuqText, checkpoints: dict[str, Path]) -> None:
    package = reference.muq_package(str(checkpoints["muq"]), double=False)
    with torch.inference_mode(), contextlib.chdir(checkpoints["muq"]):  # its tokenizer is named relative to it
        expected = package(texts=[prompt])[0].numpy()
    np.testing.assert_allclose(model.embed(prompt), expected, atol=1e-6)
    assert np.linalg.norm(model.embed(prompt)) == pytest.approx(1, abs=1e-6)


def test_prompts_differ(model: MuqText) -> None:
    vectors = np.stack([model.embed(prompt) for prompt in PROMPTS])
    cosines = vectors @ vectors.T - np.eye(len(PROMPTS))
    assert cosines.max() < 0.9999


def test_a_text_longer_than_the_network_takes_is_cut(model: MuqText) -> None:
    start = "静" * 200
    np.testing.assert_array_equal(model.embed(start), model.embed(start + "夜" * 300))


def test_the_audio_tower_is_not_loaded(model: MuqText, checkpoints: dict[str, Path]) -> None:
    state = load_file(checkpoints["muq"] / "model.safetensors")
    text = sum(tensor.nbytes for name, tensor in state.items() if name.startswith("mulan.text"))
    assert model.bytes_held == pytest.approx(text, rel=0.1)  # oneDNN fills small matrices up
    assert not any("audio" in name for name, _ in model._network.named_parameters())


def test_its_weights_are_those_of_the_music(checkpoints: dict[str, Path]) -> None:
    text, audio = (kind(str(checkpoints["muq"]), "cpu").describe() for kind in (MuqText, MuqEncoder))
    assert text.fingerprint["weights"] == audio.fingerprint["weights"]
    assert text.dimension * 3 == audio.dimension


def test_the_published_files_without_token_names_are_enough(
    model: MuqText, checkpoints: dict[str, Path], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLM-RoBERTa comes from the hub with a bare tokenizer_config.json, and its weights are not downloaded."""
    monkeypatch.setattr(locate, "places", locate.Places((tmp_path / "hub",)))
    snapshot = tmp_path / "hub" / "models--FacebookAI--xlm" / "snapshots" / "abc"
    shutil.move(folder / TEXT_PART, snapshot)
    (snapshot / "model.safetensors").unlink()
    (snapshot / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("abc")
    change(folder / "config.json", text_model={"name": "FacebookAI/xlm", "model_dim": 16})
    np.testing.assert_array_equal(loaded(folder).embed("calm piano"), model.embed("calm piano"))


def test_nothing_that_comes_with_a_tokenizer_is_run(folder: Path) -> None:
    part = folder / TEXT_PART
    (part / "evil.py").write_text(f"open({str(folder / 'run')!r}, 'w')")
    change(part / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    change(part / "config.json", auto_map={"AutoModel": "evil.Model"})
    loaded(folder).embed("calm piano")
    assert not (folder / "run").exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_missing_files_are_named_with_what_to_do(name: str, folder: Path) -> None:
    (folder / TEXT_PART / name).unlink()
    with pytest.raises(WeightsMissing, match=f"{name}; copy it there"):
        MuqText(str(folder), "cpu").require_files()


def test_a_broken_tokenizer_is_refused(folder: Path) -> None:
    (folder / TEXT_PART / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsUnusable, match="is not a tokenizer"):
        loaded(folder)


def test_weights_must_be_all_there_but_for_a_constant_of_old(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file(state | {"mulan.text.model.embeddings.position_ids": torch.arange(9)}, path)
    loaded(folder)
    del state["mulan.text_to_latents.bias"]
    save_file(state, path)
    with pytest.raises(WeightsUnusable, match=r"lacks: text_to_latents\.bias"):
        loaded(folder)


def test_configs_of_another_model_are_refused(folder: Path) -> None:
    change(folder / TEXT_PART / "config.json", max_position_embeddings="many")
    with pytest.raises(WeightsUnusable, match="do not describe a text model"):
        loaded(folder)
