"""The published format: its twins in small load and embed; in full size, names and shapes are those that we ask for."""

from __future__ import annotations

import os
import pickletools
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from embeddings.encoders.base import Encoder
from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import ENCODERS, encoder_class
from embeddings.errors import WeightsUnusable
from embeddings.weights.tensors import check_readable, load_strictly, without_weights
from tests.encoders import published, twins
from tests.encoders.audio import noise

KEYS = [encoder.key for encoder in ENCODERS]
DIMENSIONS = {"muq": 1_536, "mert": 2_400, "latent": 576}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {key: twins.make_offline_twin(key, tmp_path_factory.mktemp(key)) for key in KEYS}


@pytest.mark.parametrize("key", KEYS)
def test_the_published_format_loads_and_embeds(key: str, folders: dict[str, Path]):
    encoder = encoder_class(key)(str(folders[key]), "cpu")
    encoder.verify()
    encoder.load()
    vector = encoder.embed(noise(encoder.audio, 6)).vector
    assert vector.shape == (encoder.describe().dimension,) == (DIMENSIONS[key],)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_texts_are_read_with_the_published_tokenizer(folders: dict[str, Path]):
    model = MuqText(str(folders["muq"]), "cpu")
    model.load()
    calm, loud = model.embed("calm piano"), model.embed("loud techno")
    assert calm @ loud < 0.999


@pytest.mark.parametrize("key", KEYS)
def test_a_published_file_holds_so_many_tensors_and_bytes(key: str):
    state = twins.state(key, "published")
    assert len(state) == published.TENSORS[key]
    assert sum(tensor.nbytes for tensor in state.values()) / 1e6 == pytest.approx(published.MEGABYTES[key], abs=0.5)


@pytest.mark.parametrize("kind", [*ENCODERS, MuqText], ids=lambda kind: str(kind.key))
def test_the_networks_weights_are_those_of_the_published_file(kind: type[Encoder], tmp_path: Path):
    key = getattr(kind, "audio_model", kind.key)
    folder = twins.make_offline_twin(key, tmp_path, "published", weights=False)
    with without_weights():
        network = kind(str(folder), "cpu")._build()
    load_strictly(network, kind.tensors.of(twins.state(key, "published")), folder)


def test_music2latent_asks_for_what_the_hub_lists(folders: dict[str, Path]):
    with zipfile.ZipFile(folders["latent"] / "music2latent.pt") as file:
        (name,) = [name for name in file.namelist() if name.endswith("data.pkl")]
        operations = pickletools.genops(file.read(name))
    asked = {argument.replace(" ", ".") for operation, argument, _ in operations if operation.name == "GLOBAL"}
    assert asked == published.PICKLED


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploited",)


@pytest.mark.parametrize("read", [lambda path: LatentEncoder(str(path.parent), "cpu").load(), check_readable])
def test_numbers_of_numpy_are_read_and_still_nothing_is_run(
    read: Callable[[Path], None], folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    path = Path(shutil.copytree(folders["latent"], tmp_path / "latent")) / "music2latent.pt"
    read(path)
    torch.save({"gen_state_dict": {"encoder.x": torch.zeros(1)}, "fid": Exploit()}, path)
    with pytest.raises(WeightsUnusable, match=r"asks for \w+\.mkdir, which is not run"):
        read(path)
    assert not (tmp_path / "exploited").exists()
