"""A backup of the tests' instance, restored as another one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embeddings.index.sync import rebuild_index
from embeddings.search.neighbours import nearest_to_track
from navembed_site.instance.backup.operations import backup
from tests.batches.rows import make_embedding, make_space, make_track
from tests.index.conftest import unit
from tests.instance.conftest import Instance
from tests.milvus import LiteServer

INDEX_AND_ASK = """
import json
from django.core.management import call_command
from embeddings.search.neighbours import nearest_to_track
from navembed_site.instance.needed import needed_processes
with needed_processes("milvus_lite"):
    call_command("rebuild_index")
    print(json.dumps([found.track_id for found in nearest_to_track("muq", "t3", 5)]))
"""


@pytest.mark.django_db(transaction=True)
def test_restored_instance_finds_the_same_neighbours(milvus: LiteServer, instance: Instance, tmp_path: Path) -> None:
    space = make_space()
    for number, vector in enumerate(unit(20)):
        make_embedding(space, make_track(f"t{number}"), vector=vector.astype("<f4").tobytes())
    rebuild_index(space)
    expected = [found.track_id for found in nearest_to_track("muq", "t3", 5)]
    backup(tmp_path / "backup.tar")

    restored = instance.run("restore", str(tmp_path / "backup.tar"))
    assert "Restored 20 tracks, 20 embeddings" in restored.stdout, restored.stderr
    asked = instance.run("shell", "--no-imports", "-c", INDEX_AND_ASK)
    assert asked.returncode == 0, asked.stderr
    assert json.loads(asked.stdout.splitlines()[-1]) == expected
