"""Two instances, each with its own database, on the Milvus Lite of one of them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.instance.conftest import Beside, Instance
from tests.instance.test_needed_processes import KEEP

FILL = """
import numpy as np
from django.core.management import call_command
from embeddings.models import Embedding, EmbeddingSpace, Track
space = EmbeddingSpace.objects.create(model="muq", dimension=8, fingerprint="f" * 64, recipe={{}}, status="live")
for number in range({count}):
    track = Track.objects.create(
        id=f"{name}{{number}}", library_id=1, path=f"/{name}{{number}}", title=f"{name}{{number}}", duration=1, size=1,
        playable=True, scan=1
    )
    vector = np.eye(8, dtype="float32")[number]
    Embedding.objects.create(space=space, track=track, windows=1, audio_seconds=1, size=1, vector=vector.tobytes())
call_command("rebuild_index")
"""
Second = Callable[[str], Instance]


@pytest.fixture(scope="module")
def instance(module_instance: Instance) -> Instance:
    return module_instance


@pytest.fixture(scope="module")
def first(instance: Instance) -> Instance:
    """An instance with three vectors, whose Milvus Lite runs."""
    keeps_milvus = instance.start(code=KEEP)
    assert keeps_milvus.stdout
    assert keeps_milvus.stdout.readline() == "ready\n"
    _fill(instance, "a", 3)
    return instance


@pytest.fixture
def second(first: Instance, beside: Beside) -> Second:
    """Make an instance in a folder of this name beside the first one, on the same Milvus."""
    return lambda name: beside(name, NAVIDROME_MILVUS_URI=f"unix:{first.home / 'milvus.sock'}")


def _fill(instance: Instance, name: str, count: int) -> None:
    filled = instance.run("shell", "--no-imports", "-c", FILL.format(name=name, count=count))
    assert filled.returncode == 0, filled.stderr


def _status(instance: Instance) -> tuple[int, bool, str]:
    """How many vectors Milvus has, whether they are those of the database, and what is to be noticed."""
    status = json.loads(instance.run("library_status", "--verify", "--json").stdout)
    return status["models"]["muq"]["in_milvus"], status["models"]["muq"]["consistent"], status["notice"]


def test_both_keep_and_find_their_own_vectors_and_the_second_is_told_of_the_first(
    first: Instance, second: Second
) -> None:
    other = second("b")
    _fill(other, "b", 5)
    assert first.run("rebuild_index").returncode == 0
    *counts, notice = _status(other)
    assert (_status(first), counts) == ((3, True, ""), [5, True])
    for said in (notice, other.run("check", "embeddings").stderr):
        assert "belong to another instance (embedding names navembed_" in said
    assert "a1" in first.run("similar", "a0", "--models", "muq").stdout
    assert "b4" in other.run("similar", "b0", "--models", "muq").stdout


def test_restored_backup_leaves_the_collections_alone_until_somebody_decides(first: Instance, second: Second) -> None:
    file, copy = str(first.home / "backup.tar"), second("copy")
    assert first.run("backup", file).returncode == copy.run("restore", file, "--force").returncode == 0
    refused = copy.run("rebuild_index")
    assert (refused.returncode, "is used by another copy of this instance" in refused.stderr) == (1, True)
    assert _status(first)[:2] == (3, True)
    assert copy.run("adopt_milvus", "--separate").returncode == 0
    assert (_status(first)[:2], _status(copy)[:2]) == ((3, True), (3, True))
