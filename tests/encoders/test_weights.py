"""Finding weights and refusing those that are not what they should be."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from django.conf import settings
from safetensors.torch import load_file, save_file

from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights import locate


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """Downloads and hashes lie in a folder of the test's own."""
    before = locate.places.hub_caches, locate.places.hash_file
    locate.use_folders(checkpoints=tmp_path / "hub", cache=tmp_path / "cache")
    yield tmp_path
    locate.places.hub_caches, locate.places.hash_file = before


@pytest.fixture
def mert(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["mert"], tmp_path / "mert"))


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def download(hub: Path, name: str, folder: Path) -> None:
    """Lay a folder out as the hub's library does after a download."""
    repository = hub / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")


@pytest.mark.parametrize(("key", "dimension"), [("muq", 1_536), ("mert", 1_200), ("latent", 576)])
def test_the_dimension_follows_from_the_checkpoint(key: str, dimension: int, checkpoints: dict[str, Path]):
    (encoder,) = [encoder for encoder in ENCODERS if encoder.key == key]
    description = encoder(str(checkpoints[key]), "cpu").describe()
    assert description.dimension == dimension
    assert json.dumps(description.fingerprint)


def test_describing_needs_no_torch(places: Path, checkpoints: dict[str, Path]):
    download(places / "hub", "m-a-p/tiny", checkpoints["mert"])
    script = f"""
import sys
from pathlib import Path
from embeddings.encoders import registry
from embeddings.weights import locate
locate.use_folders(checkpoints=Path({str(places / "hub")!r}), cache=Path({str(places)!r}))
registry.encoder_class("mert")("m-a-p/tiny", "cpu").describe()
sys.exit(bool({{"torch", "transformers", "muq", "django"}} & set(sys.modules)))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=settings.BASE_DIR)


def test_a_downloaded_model_is_found_with_its_revision(places: Path, checkpoints: dict[str, Path]):
    download(places / "hub", "m-a-p/tiny", checkpoints["mert"])
    encoder = MertEncoder("m-a-p/tiny", "cpu")
    encoder.load()
    assert encoder.describe().source == "m-a-p/tiny@abc123"


def test_a_hub_id_and_its_folder_have_one_fingerprint(places: Path, checkpoints: dict[str, Path]):
    download(places / "hub", "OpenMuQ/tiny", checkpoints["muq"])
    downloaded = MuqEncoder("OpenMuQ/tiny", "cpu").describe()
    assert downloaded.fingerprint == MuqEncoder(str(checkpoints["muq"]), "cpu").describe().fingerprint


def test_parts_are_found_beside_the_folder_or_as_hub_ids(places: Path, checkpoints: dict[str, Path]):
    folder = Path(shutil.copytree(checkpoints["muq"], places / "muq"))
    change(folder / "config.json", audio_model={"name": "OpenMuQ/part", "model_dim": 16})
    download(places / "hub", "OpenMuQ/part", checkpoints["muq"] / "tiny-muq")
    shutil.rmtree(folder / "tiny-muq")
    MuqEncoder(str(folder), "cpu").load()


@pytest.mark.parametrize("source", ["m-a-p/MERT-v1-330M", "not a hub id", "/no/such/folder"])
def test_absent_weights_are_named(source: str, places: Path):
    with pytest.raises(WeightsMissing, match=source):
        MertEncoder(source, "cpu").describe()


def test_an_incomplete_folder_names_the_file_and_what_to_do(mert: Path):
    (mert / "pytorch_model.bin").unlink()
    with pytest.raises(WeightsMissing, match=r"pytorch_model\.bin; copy it there"):
        MertEncoder(str(mert), "cpu").describe()


@pytest.mark.parametrize("other", ["feature_extractor_cqt", "deepnorm"])
def test_another_network_than_hubert_is_refused(other: str, mert: Path):
    change(mert / "config.json", **{other: True})
    with pytest.raises(WeightsUnusable, match=other):
        MertEncoder(str(mert), "cpu").load()


def test_another_rate_is_refused(mert: Path):
    change(mert / "preprocessor_config.json", sampling_rate=16_000)
    with pytest.raises(WeightsUnusable, match="16000 Hz"):
        MertEncoder(str(mert), "cpu").describe()


def test_normalising_is_the_checkpoints_choice(mert: Path):
    before = MertEncoder(str(mert), "cpu").describe().fingerprint
    change(mert / "preprocessor_config.json", do_normalize=False)
    assert MertEncoder(str(mert), "cpu").describe().fingerprint != before


@pytest.mark.parametrize(
    ("lost", "found"), [("lacks: encoder.layer_norm.bias", None), ("unknown weights: extra", "extra")]
)
def test_missing_and_unknown_weights_are_refused(lost: str, found: str | None, mert: Path):
    state = torch.load(mert / "pytorch_model.bin", weights_only=True)
    if found:
        state[found] = torch.zeros(1)
    else:
        del state["encoder.layer_norm.bias"]
    torch.save(state, mert / "pytorch_model.bin")
    with pytest.raises(WeightsUnusable, match=lost):
        MertEncoder(str(mert), "cpu").load()


def test_weights_of_another_shape_are_refused(mert: Path):
    change(mert / "config.json", intermediate_size=64)
    with pytest.raises(WeightsUnusable, match="another shape"):
        MertEncoder(str(mert), "cpu").load()


def test_weights_only_training_uses_may_be_there(mert: Path):
    state = torch.load(mert / "pytorch_model.bin", weights_only=True)
    torch.save(state | {"masked_spec_embed": torch.zeros(16)}, mert / "pytorch_model.bin")
    MertEncoder(str(mert), "cpu").load()


class Exploit:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploited",)


def test_nothing_in_a_weights_file_is_run(mert: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(mert)
    torch.save({"weight": Exploit()}, mert / "pytorch_model.bin")
    with pytest.raises(WeightsUnusable, match="cannot be read"):
        MertEncoder(str(mert), "cpu").load()
    (mert / "pytorch_model.bin").write_bytes(pickle.dumps(Exploit()))
    with pytest.raises(WeightsUnusable, match="cannot be read"):
        MertEncoder(str(mert), "cpu").load()
    assert not (mert / "exploited").exists()


def test_muq_holds_no_text_tower(checkpoints: dict[str, Path]):
    encoder = MuqEncoder(str(checkpoints["muq"]), "cpu")
    assert encoder.bytes_held == 0
    encoder.load()
    state = load_file(checkpoints["muq"] / "model.safetensors")
    audio = sum(tensor.nbytes for name, tensor in state.items() if name.startswith("mulan.audio"))
    assert encoder.bytes_held == pytest.approx(audio, rel=0.02)  # the text tower is as large


def test_muq_loads_from_a_torch_file_too(checkpoints: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(checkpoints["muq"], tmp_path / "muq"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    MuqEncoder(str(folder), "cpu").load()


def test_latent_loads_from_safetensors_too(checkpoints: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(checkpoints["latent"], tmp_path / "latent"))
    state = torch.load(folder / "music2latent.pt", weights_only=True)["gen_state_dict"]
    save_file(state, folder / "music2latent.safetensors")
    (folder / "music2latent.pt").unlink()
    LatentEncoder(str(folder), "cpu").load()


def test_an_unknown_architecture_number_is_refused(checkpoints: dict[str, Path], tmp_path: Path):
    folder = Path(shutil.copytree(checkpoints["latent"], tmp_path / "latent"))
    change(folder / "config.json", bottleneck_channels=32)
    with pytest.raises(WeightsUnusable, match="bottleneck_channels"):
        LatentEncoder(str(folder), "cpu").load()


def test_building_leaves_the_packages_numbers_as_they_were(checkpoints: dict[str, Path]):
    from music2latent import models

    LatentEncoder(str(checkpoints["latent"]), "cpu").load()
    assert (models.base_channels, models.bottleneck_base_channels) == (64, 512)


def test_a_file_is_hashed_once_until_it_changes(places: Path, monkeypatch: pytest.MonkeyPatch):
    path = places / "weights"
    path.write_bytes(b"one")
    first = locate.sha256(path)
    monkeypatch.setattr(locate.hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert locate.sha256(path) == first
    monkeypatch.undo()
    path.write_bytes(b"other")
    assert locate.sha256(path) != first
