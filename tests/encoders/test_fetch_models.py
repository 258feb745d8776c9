"""``fetch_models``: what is where, and a clear sentence where it is not."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from embeddings.encoders import weights


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets where to look; other tests look where they did before."""
    monkeypatch.setattr(weights, "places", weights.Places())


@pytest.fixture
def sources(settings: LazySettings, checkpoints: dict[str, Path], tmp_path: Path) -> dict[str, str]:
    """Copies of the tiny checkpoints, configured as the models' folders."""
    settings.MODEL_SOURCES = {key: str(shutil.copytree(folder, tmp_path / key)) for key, folder in checkpoints.items()}
    return settings.MODEL_SOURCES


def fetch(*arguments: str) -> str:
    out = io.StringIO()
    call_command("fetch_models", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def report(*arguments: str) -> dict[str, Any]:
    return dict(json.loads(fetch("--json", *arguments)))


def test_says_what_is_where_and_how_big(sources: dict[str, str]):
    files = report()["mert"]["files"]
    weights_file = Path(sources["mert"], "pytorch_model.bin")
    assert {Path(file["path"]).name for file in files} == {"config.json", "preprocessor_config.json", weights_file.name}
    (entry,) = [file for file in files if file["path"] == str(weights_file)]
    content = weights_file.read_bytes()
    assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_muq_needs_configs_and_words_of_its_parts_but_not_their_weights(sources: dict[str, str]):
    for weights_file in Path(sources["muq"]).glob("tiny-*/model.safetensors"):
        weights_file.unlink()
    found = {str(Path(file["path"]).relative_to(sources["muq"])) for file in report("--models", "muq")["muq"]["files"]}
    assert {"model.safetensors", "tiny-muq/config.json", "tiny-xlm-roberta/tokenizer.json"} <= found


def test_people_get_lines(sources: dict[str, str]):
    lines = fetch("--models", "latent").splitlines()
    assert lines[0].startswith(f"latent: {sources['latent']}, 5")
    assert lines[1].split()[-1].endswith("music2latent.pt")


def test_an_incomplete_folder_fails_and_the_others_are_still_checked(sources: dict[str, str]):
    Path(sources["muq"], "tiny-muq", "config.json").unlink()
    with pytest.raises(CommandError, match=r"no usable weights for muq$"):
        fetch()


def test_damaged_weights_fail(sources: dict[str, str]):
    with Path(sources["mert"], "pytorch_model.bin").open("r+b") as file:
        file.truncate(1_000)
    with pytest.raises(CommandError, match="mert"):
        fetch("--models", "mert")


def test_a_download_that_is_not_what_the_hub_has_fails(sources: dict[str, str], settings: LazySettings, tmp_path: Path):
    repository = tmp_path / "hub" / "models--some--latent"
    (repository / "blobs").mkdir(parents=True)
    blob = Path(shutil.copy(Path(sources["latent"], "music2latent.pt"), repository / "blobs" / ("0" * 64)))
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "music2latent.pt").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    settings.MODEL_SOURCES = {**sources, "latent": "some/latent"}
    settings.CHECKPOINT_DIR = tmp_path / "hub"
    out = io.StringIO()
    with pytest.raises(CommandError):
        call_command("fetch_models", "--models", "latent", stderr=out)
    assert "damaged" in out.getvalue()


def test_without_a_network_the_sentence_says_what_to_do(settings: LazySettings):
    settings.MODEL_SOURCES = {"mert": "m-a-p/MERT-v1-330M"}
    out = io.StringIO()
    with pytest.raises(CommandError, match="mert"):
        call_command("fetch_models", "--models", "mert", stderr=out)
    assert "m-a-p/MERT-v1-330M could not be downloaded" in out.getvalue()
    assert "set the model's variable to the folder" in out.getvalue()
