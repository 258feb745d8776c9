"""A Milvus server with a large library, through the product; the tests go on from what those before them have left."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from embeddings.encoders.registry import MODEL_KEYS
from tests import postgres
from tests.instance.conftest import Instance
from tests.milvus_server import MilvusServer

TRACKS = 20_000
ALIASES = {"muq": "embedding", "mert": "mert_embedding", "latent": "latent_embedding"}
INDEX_SECONDS = 1_800
LOAD_SECONDS = 300
FILL = f"from navembed_site.benchmarks.search import fill_here; fill_here({TRACKS})"
RECALL = """
import json, sys
from tests.index.recall import recall
json.dump({{model: recall(model) for model in {models}}}, sys.stdout)
"""
SEND_AGAIN = """
import time
from embeddings.index.sync import index_pending, send_again
from embeddings.spaces.lifecycle import live_space
space = live_space("muq")
send_again(space.embeddings.filter(pk__in=space.embeddings.order_by("pk").values("pk")[:1500]))
print(index_pending(space))
"""

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="module")
def instance(server: MilvusServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance over PostgreSQL and the server, filled with vectors of the published sizes."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        "NAVEMBED_HOME": str(home),
        "NAVIDROME_DB_PATH": str(home / "navidrome.db"),
        "NAVIDROME_MILVUS_URI": server.uri,
    }
    with postgres.server() as url:
        with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as connection:
            connection.execute(b"CREATE DATABASE navembed")
        made = Instance(home, environment | {"DATABASE_URL": url})
        began = time.monotonic()
        python(made, FILL)
        print(f"filled with {TRACKS} tracks in {time.monotonic() - began:.0f} s; {sizes(url)}; {used(server)}")
        yield made
        made.end()


def python(instance: Instance, code: str) -> str:
    done = instance.run("shell", "--no-imports", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def sizes(url: str) -> str:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT model, SUM(octet_length(vector)) FROM embeddings_embedding e "
            "JOIN embeddings_embeddingspace s ON s.id = e.space_id GROUP BY model"
        ).fetchall()
        whole = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert whole
    return f"PostgreSQL: {whole[0] / 1e9:.2f} GB, of vectors { ({model: int(n) / 1e9 for model, n in rows}) }"


def used(server: MilvusServer) -> str:
    disk = subprocess.run(["du", "-sb", server.data / "data"], capture_output=True, text=True, check=True).stdout
    return f"Milvus: {int(disk.split()[0]) / 1e9:.2f} GB of disk, {server.memory() / 1e9:.2f} GB of memory"


def recalls(instance: Instance) -> dict[str, float]:
    return dict(json.loads(python(instance, RECALL.format(models=list(MODEL_KEYS)))))


def wait_for_index(server: MilvusServer) -> dict[str, Any]:
    """Wait until every row is in an index; returns the indexes, by model, as Milvus itself describes them."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri=server.uri, timeout=30, dedicated=True)
    deadline = time.monotonic() + INDEX_SECONDS
    while True:
        found = {model: client.describe_index(alias, "vector") for model, alias in ALIASES.items()}
        if all(each["indexed_rows"] >= TRACKS and not each["pending_index_rows"] for each in found.values()):
            client.close()
            return found
        assert time.monotonic() < deadline, found
        time.sleep(2)


def all_are_there(instance: Instance) -> bool:
    """Whether Milvus holds what the database says, once it answers: after a start it loads for a while."""
    deadline = time.monotonic() + LOAD_SECONDS
    while (status := instance.run("library_status", "--verify", "--json")).returncode:
        assert time.monotonic() < deadline, status.stderr
    models = json.loads(status.stdout)["models"]
    return all(each["consistent"] and each["in_milvus"] == TRACKS for each in models.values())


def test_hnsw_is_built_and_finds_what_brute_force_finds(server: MilvusServer, instance: Instance) -> None:
    began = time.monotonic()
    assert {each["index_type"] for each in wait_for_index(server).values()} == {"HNSW"}
    found = recalls(instance)
    print(f"index built in {time.monotonic() - began:.0f} s more; recall@10 {found}; {used(server)}")
    assert min(found.values()) >= 0.99


def test_everything_is_there_after_a_restart(server: MilvusServer, instance: Instance) -> None:
    server.end(signal.SIGTERM)
    server.start()
    assert all_are_there(instance)
    assert min(recalls(instance).values()) >= 0.99


def test_what_was_sent_just_before_a_kill_is_there(server: MilvusServer, instance: Instance) -> None:
    assert python(instance, SEND_AGAIN) == "1500\n"
    server.end(signal.SIGKILL)
    server.start()
    assert all_are_there(instance)


def test_an_emptied_server_is_filled_again_from_the_database(server: MilvusServer, instance: Instance) -> None:
    server.end()
    server.empty()
    server.start()
    began = time.monotonic()
    assert instance.run("rebuild_index").returncode == 0
    print(f"rebuild_index took {time.monotonic() - began:.0f} s")
    assert all_are_there(instance)
    wait_for_index(server)
    assert min(recalls(instance).values()) >= 0.99
