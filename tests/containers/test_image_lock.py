"""What of the lock goes into an image."""

from __future__ import annotations

import re
import runpy

import pytest
from django.conf import settings

REQUIREMENTS = settings.BASE_DIR / "requirements"
image_lock = runpy.run_path(str(REQUIREMENTS / "image_lock.py"))["image_lock"]


def entries(torch: str) -> dict[str, str]:
    lock = image_lock((REQUIREMENTS / "lock.txt").read_text(encoding="ascii"), torch)
    return {entry.partition("==")[0]: entry for entry in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]}


@pytest.mark.parametrize("torch", ["cuda", "cpu"])
def test_image_has_what_runs_and_nothing_of_the_tests(torch: str) -> None:
    wanted = set(re.findall(r"^([\w-]+)", (REQUIREMENTS / "base.txt").read_text(encoding="utf-8"), re.MULTILINE))
    packages = entries(torch).keys()
    assert wanted | {"uv", "sqlparse", "tokenizers"} <= packages
    assert not {"pytest", "mypy", "hypothesis", "werkzeug"} & packages


def test_all_that_an_image_for_gpus_has_is_held_by_hashes() -> None:
    assert [name for name, entry in entries("cuda").items() if "--hash=sha256:" not in entry] == []
    assert "nvidia-cublas" in entries("cuda")


def test_image_for_cpus_lacks_cuda_and_takes_builds_without_it() -> None:
    found = entries("cpu")
    assert [name for name in found if name.startswith(("nvidia-", "cuda-", "triton"))] == []
    without_hash = [entry.strip() for entry in found.values() if "--hash" not in entry]
    assert [re.sub(r"==[\d.]+", "", entry) for entry in without_hash] == [
        "torch+cpu",
        "torchaudio+cpu",
        "torchvision+cpu",
    ]
