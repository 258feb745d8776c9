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

from embeddings.weights import locate


@pytest.fixture(autouse=True)
def places(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets where to look; other tests look where they did before."""
    monkeypatch.setattr(locate, "places", locate.Places())


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
    first, folder, file = fetch("--models", "latent").splitlines()
    assert first.startswith(f"latent: {sources['latent']}, 5")
    assert (folder.strip(), file.split()[-1]) == (sources["latent"], "music2latent.pt")


def test_an_incomplete_folder_fails_and_the_others_are_still_checked(sources: dict[str, str]):
    Path(sources["muq"], "tiny-muq", "config.json").unlink()
    with pytest.raises(CommandError, match=r"no usable weights for muq$"):
        fetch()


def test_damaged_weights_fail(sources: dict[str, str]):
    with Path(sources["mert"], "pytorch_model.bin").open("r+b") as file:
        file.truncate(1_000)
    with pytest.raises(CommandError, match="mert"):
        fetch("--models", "mert")


def test_weights_of_another_network_fail(sources: dict[str, str]):
    config = Path(sources["mert"], "config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 64}))
    with pytest.raises(CommandError, match="mert"):
        fetch("--models", "mert")
