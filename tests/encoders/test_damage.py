"""Files that are not what their names say are named for what they are, in one line that says what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from embeddings.encoders.latent import LatentEncoder
from embeddings.encoders.mert import MertEncoder
from embeddings.encoders.muq import MuqEncoder
from embeddings.encoders.muq_text import MuqText
from embeddings.errors import WeightsUnusable
from embeddings.weights.damage import damage
from tests.encoders import twins

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 2654\n"
PAGE = b"\n<!DOCTYPE html>\n<html><body>Log in</body></html>\n"


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def write(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


DAMAGES = {
    "pointer": (write(POINTER), r"is a pointer of git-lfs, not the file itself \(`git lfs pull` gets that\)"),
    "web page": (write(PAGE), "is a web page that was saved under this name"),
    "empty": (write(b""), "is empty"),
}
OF_WEIGHTS = DAMAGES | {
    "text": (write(b"Entry not found"), "is a text, not weights: 'Entry not found'"),
    "zeros": (write(bytes(5_000)), "begins with nothing but zeros"),
    "cut": (cut, "is not whole"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("twins")
    return {key: twins.make_offline_twin(key, folder / key) for key in twins.REPOSITORIES}


@pytest.fixture
def folders(whole: dict[str, Path], tmp_path: Path) -> dict[str, Path]:
    return {key: Path(shutil.copytree(folder, tmp_path / key)) for key, folder in whole.items()}


def said(error: pytest.ExceptionInfo[WeightsUnusable]) -> str:
    """The sentence, of one line and without colours."""
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", OF_WEIGHTS)
def test_weights_that_are_something_else(kind: str, folders: dict[str, Path]):
    break_it, words = OF_WEIGHTS[kind]
    break_it(folders["latent"] / "music2latent.pt")
    with pytest.raises(
        WeightsUnusable, match=rf"music2latent\.pt {words}.* Put the whole file in its place\."
    ) as error:
        LatentEncoder(str(folders["latent"]), "cpu").describe()
    assert said(error)


@pytest.mark.parametrize(
    "content", [b"\x80\x02}q\x00.", b"\x93NUMPY\x01\x00", b"PK\x03\x04" + b"PK\x05\x06" + bytes(18)]
)
def test_weights_of_no_kind_that_we_know(content: bytes, folders: dict[str, Path]):
    (folders["latent"] / "music2latent.pt").write_bytes(content)
    with pytest.raises(WeightsUnusable, match="cannot be read as weights: ") as error:
        LatentEncoder(str(folders["latent"]), "cpu").load()
    assert "weights_only" not in said(error)


def test_weights_of_another_model(folders: dict[str, Path]):
    shutil.copy(folders["mert"] / "pytorch_model.bin", folders["latent"] / "music2latent.pt")
    with pytest.raises(WeightsUnusable, match=r"music2latent\.pt has no gen_state_dict: is it another model's\?"):
        LatentEncoder(str(folders["latent"]), "cpu").verify()


def test_cut_safetensors(tmp_path: Path):
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(1_000)}, tmp_path / "model.safetensors")
    assert not damage(tmp_path / "model.safetensors")
    cut(tmp_path / "model.safetensors")
    assert "is not whole, or damaged" in damage(tmp_path / "model.safetensors")


@pytest.mark.parametrize("kind", DAMAGES)
def test_configs_that_are_something_else(kind: str, folders: dict[str, Path]):
    break_it, words = DAMAGES[kind]
    break_it(folders["mert"] / "preprocessor_config.json")
    with pytest.raises(WeightsUnusable, match=rf"preprocessor_config\.json {words}") as error:
        MertEncoder(str(folders["mert"]), "cpu").describe()
    assert said(error)


@pytest.mark.parametrize("kind", DAMAGES)
def test_tokenizers_that_are_something_else(kind: str, folders: dict[str, Path]):
    break_it, words = DAMAGES[kind]
    break_it(folders["muq"] / "xlm-roberta-base" / "tokenizer.json")
    with pytest.raises(WeightsUnusable, match=rf"tokenizer\.json {words}") as error:
        MuqText(str(folders["muq"]), "cpu").require_files()
    assert said(error)
    with pytest.raises(WeightsUnusable, match=rf"tokenizer\.json {words}"):
        MuqEncoder(str(folders["muq"]), "cpu").verify()


def test_a_cut_tokenizer_is_no_tokenizer(folders: dict[str, Path]):
    cut(folders["muq"] / "xlm-roberta-base" / "tokenizer.json")
    with pytest.raises(WeightsUnusable, match=r"tokenizer\.json is not a tokenizer") as error:
        MuqEncoder(str(folders["muq"]), "cpu").verify()
    assert said(error)


def test_in_a_hub_cache_the_mend_is_to_fetch(tmp_path: Path):
    path = tmp_path / "snapshots" / "abc" / "config.json"
    path.parent.mkdir(parents=True)
    path.touch()
    assert damage(path).endswith("is empty. `manage.py fetch_models` gets it again.")


def test_a_file_that_must_not_be_read_says_so(tmp_path: Path):
    (tmp_path / "config.json").symlink_to("config.json")
    assert "cannot be read: Too many levels of symbolic links" in damage(tmp_path / "config.json")
