"""Several files of weights beside each other, as old caches have them: the first that fits is used, by everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from django.conf import settings
from safetensors.torch import save_file

from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.muq_text import MuqText
from embeddings.errors import WeightsUnusable
from embeddings.weights import locate
from tests.encoders import twins

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 2654\n"


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is remembered lies in a folder of the test's own."""
    monkeypatch.setattr(locate, "places", locate.Places(hash_file=tmp_path / "cache" / "weights.json"))


@pytest.fixture
def muq(tmp_path: Path) -> Path:
    return twins.make_offline_twin("muq", tmp_path / "muq")


@pytest.fixture
def mert(tmp_path: Path) -> Path:
    return twins.make_offline_twin("mert", tmp_path / "mert")


def add_safetensors(folder: Path, keep: Callable[[str], bool]) -> None:
    """Put a model.safetensors with some of the tensors beside pytorch_model.bin."""
    state: dict[str, Any] = torch.load(folder / "pytorch_model.bin", weights_only=True)
    save_file({name: tensor for name, tensor in state.items() if keep(name)}, folder / "model.safetensors")


def used(folder: Path, kind: type[MuqEncoder | MuqText] = MuqEncoder) -> str:
    """Load, and return the name of the file that was read; it is the one that describes the model."""
    model = kind(str(folder), "cpu")
    model.load()
    path = model.weights_file()
    assert model.describe().fingerprint["weights"] == [locate.sha256(path)]
    return path.name


def test_the_withdrawn_file_without_position_embeddings_is_enough(muq: Path):
    add_safetensors(muq, lambda name: "pos_conv_embed" not in name)
    assert used(muq) == "model.safetensors"


def test_a_file_that_does_not_fit_gives_way(muq: Path):
    add_safetensors(muq, lambda name: "conv.linear" not in name)
    assert used(muq) == "pytorch_model.bin"


def test_music_and_texts_are_of_the_same_file(muq: Path):
    add_safetensors(muq, lambda name: ".text" not in name)
    assert (used(muq), used(muq, MuqText)) == ("pytorch_model.bin", "pytorch_model.bin")


def test_a_pointer_gives_way(muq: Path):
    (muq / "model.safetensors").write_text(POINTER)
    assert used(muq) == "pytorch_model.bin"


def test_none_that_fits_is_said_of_each(muq: Path):
    add_safetensors(muq, lambda name: "audio.proj" not in name)
    torch.save({"mulan.audio.x": torch.zeros(1)}, muq / "pytorch_model.bin")
    with pytest.raises(WeightsUnusable, match=r"model\.safetensors lacks: audio\.proj.*; .*pytorch_model\.bin lacks"):
        MuqEncoder(str(muq), "cpu").describe()


def test_files_are_told_apart_once(muq: Path, monkeypatch: pytest.MonkeyPatch):
    add_safetensors(muq, lambda name: "conv.linear" not in name)
    expected = MuqEncoder(str(muq), "cpu").describe().fingerprint
    script = f"""
import json, sys
from pathlib import Path
from embeddings.encoders import muq
from embeddings.weights import locate
locate.use_folders(checkpoints=Path("none"), cache=Path({str(locate.places.hash_file)!r}).parent)
assert muq.MuqEncoder({str(muq)!r}, "cpu").describe().fingerprint == json.loads({json.dumps(expected)!r})
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=settings.BASE_DIR)


def test_what_has_changed_is_looked_at_again(muq: Path):
    add_safetensors(muq, lambda name: "conv.linear" not in name)
    assert used(muq) == "pytorch_model.bin"
    add_safetensors(muq, lambda name: True)
    assert used(muq) == "model.safetensors"


def test_another_config_is_looked_at_again(muq: Path):
    add_safetensors(muq, lambda name: True)
    config = json.loads((muq / "MuQ-large-msd-iter" / "config.json").read_text())
    (muq / "MuQ-large-msd-iter" / "config.json").write_text(json.dumps(config | {"encoder_depth": 11}))
    with pytest.raises(WeightsUnusable, match="unknown weights"):
        used(muq)
    (muq / "MuQ-large-msd-iter" / "config.json").write_text(json.dumps(config))
    assert used(muq) == "model.safetensors"
