"""Finding weights in the caches of the hub's client, whoever filled them, and in folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from embeddings.encoders.base import Encoder
from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import CONFIG_FILES, MuqEncoder
from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.errors import WeightsMissing
from embeddings.weights import hub_cache, locate, published
from embeddings.weights.fetch import download_bytes
from navembed_site.demo.checkpoints import MULAN

PINNED = published.REPOSITORIES["m-a-p/MERT-v1-330M"].revision


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Path]:
    """A cache of the test's own in which downloads are looked for."""
    before = locate.places.hub_caches, locate.places.hash_file
    locate.use_folders(checkpoints=tmp_path / "hub", cache=tmp_path / "cache")
    yield tmp_path / "hub"
    locate.places.hub_caches, locate.places.hash_file = before


def put(hub: Path, name: str, commit: str, *files: str, ref: str = "") -> Path:
    """Files of one commit, as the hub's client leaves them."""
    repository = hub / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_bytes(b"{}" if file.endswith(".json") else b"\x80\x02weights")
    if ref:
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
    return snapshot


def found(source: str) -> str:
    checkpoint = locate.find_checkpoint(source, MertEncoder.files)
    checkpoint.require(MertEncoder.files)
    return checkpoint.revision


WHOLE = ("config.json", "preprocessor_config.json", "pytorch_model.bin")


def test_a_cache_without_the_files_that_nobody_needs_is_enough(hub: Path):
    snapshot = put(hub, "m-a-p/tiny", "a" * 40, *WHOLE, ref="main")
    listing = {"siblings": [*WHOLE, "MERT-v1-330M_fairseq.pt"]}
    (snapshot.parents[1] / "trees").mkdir()
    (snapshot.parents[1] / "trees" / f"{'a' * 40}.json").write_text(json.dumps(listing))
    assert found("m-a-p/tiny") == "a" * 40


def test_without_a_branch_any_complete_commit_will_do(hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, *WHOLE)
    assert found("m-a-p/tiny") == "a" * 40


def test_a_newer_commit_of_which_only_a_config_is_here_does_not_hide_a_complete_one(hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, *WHOLE)
    put(hub, "m-a-p/tiny", "b" * 40, "config.json", ref="main")
    assert found("m-a-p/tiny") == "a" * 40


def test_the_known_commit_comes_before_the_newest(hub: Path):
    put(hub, "m-a-p/MERT-v1-330M", PINNED, *WHOLE)
    put(hub, "m-a-p/MERT-v1-330M", "b" * 40, *WHOLE, ref="main")
    assert found("m-a-p/MERT-v1-330M") == PINNED


def test_the_newest_comes_before_an_older_one(hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, *WHOLE, ref="main")
    put(hub, "m-a-p/tiny", "b" * 40, *WHOLE, ref="refs/pr/3")
    assert found("m-a-p/tiny") == "a" * 40


@pytest.mark.parametrize("revision", ["b" * 40, "v2", "refs/pr/3"])
def test_a_source_may_say_its_revision(revision: str, hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, *WHOLE, ref="main")
    put(hub, "m-a-p/tiny", "b" * 40, *WHOLE, ref="v2" if len(revision) == 40 else revision)
    assert found(f"m-a-p/tiny@{revision}") == "b" * 40


def test_another_revision_than_the_one_asked_for_is_not_taken(hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, *WHOLE, ref="main")
    with pytest.raises(WeightsMissing, match="m-a-p/tiny@v2 are not on this machine"):
        found("m-a-p/tiny@v2")


def test_the_missing_file_of_an_incomplete_download_is_named(hub: Path):
    put(hub, "m-a-p/tiny", "a" * 40, "config.json", "preprocessor_config.json", ref="main")
    with pytest.raises(WeightsMissing, match=r"m-a-p/tiny@a+ has no model\.safetensors or pytorch_model\.bin; `man"):
        found("m-a-p/tiny")


@pytest.mark.parametrize("known", ["xlm-roberta-base", "FacebookAI/xlm-roberta-base"])
@pytest.mark.parametrize("asked", ["xlm-roberta-base", "FacebookAI/xlm-roberta-base"])
def test_a_renamed_checkpoint_is_found_under_either_name(known: str, asked: str, hub: Path):
    put(hub, known, "a" * 40, "config.json", ref="main")
    assert locate.find_checkpoint(asked, CONFIG_FILES).revision == "a" * 40


def test_the_users_own_cache_is_looked_into_too(hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "own"))
    put(tmp_path / "own", "m-a-p/tiny", "a" * 40, *WHOLE, ref="main")
    assert found("m-a-p/tiny") == "a" * 40


def blob(folder: Path, name: str, content: bytes = b"weights") -> Path:
    """A file as a snapshot links to it: under ``name``, which is a link to where the content lies."""
    (folder / "xet").write_bytes(content)
    (folder / "xet").rename(folder / ("f" * 64))
    (folder / name).symlink_to("f" * 64)
    (folder / "model").symlink_to(name)
    return folder / "model"


@pytest.mark.parametrize("content", [b"weights", b"Weights"])
def test_the_hash_is_compared_with_what_the_hub_said(content: bytes, tmp_path: Path):
    path = blob(tmp_path, hashlib.sha256(b"weights").hexdigest(), content)
    assert hub_cache.is_as_the_hub_said(path, locate.sha256(path)) is (content == b"weights")


@pytest.mark.parametrize("content", [b"hello\n", b"Hello\n"])
def test_small_files_are_named_as_git_does(content: bytes, tmp_path: Path):
    path = blob(tmp_path, "ce013625030ba8dba906f756967f9e9ca394464a", content)
    assert hub_cache.is_as_the_hub_said(path, locate.sha256(path)) is (content == b"hello\n")


def test_of_a_link_to_anywhere_nothing_is_known(tmp_path: Path):
    path = blob(tmp_path, "weights of mine")
    assert hub_cache.is_as_the_hub_said(path, locate.sha256(path))


def test_folders_of_a_machine_without_a_network_serve_all_models(checkpoints: dict[str, Path], tmp_path: Path):
    """The layout that docs/configuration.md names."""
    models = Path(shutil.copytree(checkpoints["muq"], tmp_path / "models" / "muq")).parent
    for part, name in (("tiny-muq", "MuQ-large-msd-iter"), ("tiny-xlm-roberta", "xlm-roberta-base")):
        (models / "muq" / part).rename(models / name)
        (models / name / "model.safetensors").unlink()
    config = json.loads((models / "muq" / "config.json").read_text())
    config["audio_model"]["name"], config["text_model"]["name"] = "OpenMuQ/MuQ-large-msd-iter", "xlm-roberta-base"
    (models / "muq" / "config.json").write_text(json.dumps(config))
    for key in ("mert", "latent"):
        shutil.copytree(checkpoints[key], models / key)
    for key, model in (("muq", MuqEncoder), ("muq", MuqText), ("mert", MertEncoder), ("latent", LatentEncoder)):
        model(os.fspath(models / key), "cpu").load()


@pytest.mark.parametrize("name", published.REPOSITORIES)
def test_every_file_is_named_for_machines_without_a_network(name: str):
    lines = (settings.BASE_DIR / "docs" / "configuration.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| `/models/") and f"[{name}]" in line]
    assert all(f"`{file}`" in row for file in published.repository(name).files)


def encoder(key: str) -> Encoder:
    return encoder_class(key)(encoder_class(key).default_source, "cpu")


def test_what_a_download_takes_is_known_without_a_network(hub: Path):
    assert [round((download_bytes(encoder(key)) or 0) / 1e6) for key in MODEL_KEYS] == [2_663, 1_262, 233]


def test_only_what_is_missing_is_downloaded(hub: Path):
    config = MULAN | {"audio_model": {"name": "OpenMuQ/MuQ-large-msd-iter"}, "text_model": {"name": "xlm-roberta-base"}}
    snapshot = put(hub, "OpenMuQ/MuQ-MuLan-large", "a" * 40, "pytorch_model.bin", ref="main")
    (snapshot / "config.json").write_text(json.dumps(config))
    assert download_bytes(encoder("muq")) == 3_133 + 615 + 9_096_718 + 25
    put(hub, "OpenMuQ/MuQ-large-msd-iter", "a" * 40, "config.json")
    put(hub, "FacebookAI/xlm-roberta-base", "a" * 40, "config.json", "tokenizer.json", "tokenizer_config.json")
    assert download_bytes(encoder("muq")) == 0


def test_of_somebody_elses_checkpoint_no_size_is_known(hub: Path):
    assert download_bytes(MertEncoder("some/body", "cpu")) is None
    put(hub, "some/body", "a" * 40, *WHOLE)
    assert download_bytes(MertEncoder("some/body", "cpu")) == 0


def test_nothing_is_downloaded_into_a_folder(hub: Path, tmp_path: Path):
    assert download_bytes(LatentEncoder(str(tmp_path / "no"), "cpu")) == 0
