"""The worked example of docs/add-a-model.md is taken from the page, registered and run."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from django.conf import settings
from safetensors.torch import save_file

from embeddings.embedder.model_manager import ModelManager
from embeddings.encoders import registry
from embeddings.encoders.base import Encoder
from embeddings.weights.fetch import fetch_model
from tests.encoders.audio import noise, piece


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Encoder]:
    """The page's encoder, registered as its reader would."""
    page = (settings.BASE_DIR / "docs" / "add-a-model.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    path = tmp_path / "timbre.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("timbre", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "timbre", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(registry, "ENCODERS", (*registry.ENCODERS, module.TimbreEncoder))
    return registry.encoder_class("timbre")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"width": 32}))
    torch.manual_seed(1)
    save_file({"weight": torch.randn(32, 513), "bias": torch.zeros(32)}, folder / "model.safetensors")
    return folder


def test_it_embeds_audio_as_it_describes(example: type[Encoder], checkpoint: Path):
    encoder = example(str(checkpoint), "cpu")
    encoder.load()
    vector, windows = encoder.embed(noise(encoder.audio, 23))
    assert vector.shape == (encoder.describe().dimension,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    assert windows == 5


def test_it_tells_sounds_apart(example: type[Encoder], checkpoint: Path):
    encoder = example(str(checkpoint), "cpu")
    encoder.load()
    sounds = [(110, 0.01), (110.5, 0.01), (880, 0.2)]
    low, same, high = (
        encoder.embed(piece(encoder.audio, 12, pitch=pitch, beat=2, grit=grit)).vector for pitch, grit in sounds
    )
    assert low @ same > low @ high


def test_the_model_manager_and_fetch_models_take_it_as_any(example: type[Encoder], checkpoint: Path):
    encoder = example(str(checkpoint), "cpu")
    assert [Path(file.path).name for file in fetch_model(encoder)] == ["config.json", "model.safetensors"]
    manager = ModelManager({"timbre": encoder}, memory_bytes=1e9)
    rows = manager.encode("timbre", noise(encoder.audio, 10).reshape(2, -1))
    assert rows.shape == (2, 32)


def test_the_page_names_what_an_encoder_must_have(example: type[Encoder]):
    assert all(hasattr(example, name) for name in Encoder.__annotations__ if not name.startswith("_"))
    assert not example.__abstractmethods__
