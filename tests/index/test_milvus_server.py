"""A Milvus server with a large library, through the product; the tests go on from what those before them have left."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.demo.encode import write_audio
from navembed_site.demo.navidrome import made_id
from tests import postgres
from tests.audio_files import tone
from tests.contract.client import GoClient
from tests.instance.conftest import Instance
from tests.instances import shared_checkpoints
from tests.milvus_server import MilvusServer
from tests.navidrome_db import add_libraries, add_tracks

TRACKS = 20_000
MORE_TRACKS = 40  # to embed while the server is away
SECONDS = 60  # of each
EMBEDDED = ("muq", "latent")  # tiny checkpoints give vectors of the published size
AWAY_SECONDS = 180
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
SAME_WEIGHTS = f"""
from embeddings.embedder.client import EmbedderClient
from embeddings.index.sync import vector_store
from embeddings.spaces.lifecycle import fingerprint_of, live_space
for model in {EMBEDDED}:
    space, described = live_space(model), EmbedderClient().describe(model)
    before = space.collection
    space.fingerprint, space.recipe = fingerprint_of(described), described.fingerprint
    space.save()
    if space.collection != before:
        vector_store().rename(before, space.collection)
"""
"""Lets the vectors be what the embedder's weights have made, so that a job adds to them."""

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
        "TEXT_EMBEDDING_DEVICE": "cpu",
    } | {f"NAVEMBED_{model.upper()}": str(folder) for model, folder in shared_checkpoints().items()}
    with postgres.server() as url:
        with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as connection:
            connection.execute(b"CREATE DATABASE navembed")
        made = Instance(home, environment | {"DATABASE_URL": url})
        began = time.monotonic()
        python(made, FILL)
        print(f"filled with {TRACKS} tracks in {time.monotonic() - began:.0f} s; {sizes(url)}; {used(server)}")
        yield made
        made.end()


@pytest.fixture
def go(instance: Instance) -> Iterator[GoClient]:
    with closing(GoClient(instance.port)) as client:
        yield client


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


def in_milvus(instance: Instance) -> dict[str, int]:
    """How many rows Milvus holds of each model, as many as the database says; after a start it loads for a while."""
    deadline = time.monotonic() + LOAD_SECONDS
    while (status := instance.run("library_status", "--verify", "--json")).returncode:
        assert time.monotonic() < deadline, status.stderr
    models = json.loads(status.stdout)["models"]
    assert all(each["consistent"] for each in models.values()), models
    return {model: each["in_milvus"] for model, each in models.items()}


def test_hnsw_is_built_and_finds_what_brute_force_finds(server: MilvusServer, instance: Instance) -> None:
    began = time.monotonic()
    assert {each["index_type"] for each in wait_for_index(server).values()} == {"HNSW"}
    found = recalls(instance)
    print(f"index built in {time.monotonic() - began:.0f} s more; recall@10 {found}; {used(server)}")
    assert min(found.values()) >= 0.99


def test_everything_is_there_after_a_restart(server: MilvusServer, instance: Instance) -> None:
    server.end(signal.SIGTERM)
    server.start()
    assert set(in_milvus(instance).values()) == {TRACKS}
    assert min(recalls(instance).values()) >= 0.99


def test_what_was_sent_just_before_a_kill_is_there(server: MilvusServer, instance: Instance) -> None:
    assert python(instance, SEND_AGAIN) == "1500\n"
    server.end(signal.SIGKILL)
    server.start()
    assert set(in_milvus(instance).values()) == {TRACKS}


def add_tracks_to_embed(instance: Instance) -> None:
    """Give Navidrome a library 2 of short tracks."""
    folder = instance.home / "music"
    folder.mkdir()
    with closing(sqlite3.connect(instance.home / "navidrome.db")) as database:
        add_libraries(database, {2: str(folder)})
        for number in range(MORE_TRACKS):
            file = folder / f"{number}.flac"
            write_audio(file, tone(SECONDS, 8_000, 1, seed=number), 8_000)
            row = {"id": f"more{number}", "path": file.name, "library_id": 2, "duration": SECONDS}
            add_tracks(database, [row | {"size": file.stat().st_size}])


def test_job_waits_for_a_server_that_is_away_for_minutes_and_goes_on(
    server: MilvusServer, instance: Instance, go: GoClient, eventually: Callable[..., None]
) -> None:
    def told_for_half_of_the_time() -> None:
        until = time.monotonic() + AWAY_SECONDS / 2
        while time.monotonic() < until:
            progress, playlist = go.progress(), go.playlist(seeds=seeds)
            assert progress["status"] == "running"
            assert "Milvus" in progress["message"]
            assert (playlist.status, playlist.json["tracks"]) == (200, [])
            assert playlist.json["warnings"]
            time.sleep(2)

    before = in_milvus(instance)
    add_tracks_to_embed(instance)
    assert instance.run("serve", "--detach").returncode == 0
    python(instance, SAME_WEIGHTS)
    seeds = [{"track_id": made_id("track", "1", "0/0.flac")}]
    assert instance.run("embed_library", "--library", "2", "--models", *EMBEDDED, "--no-wait").returncode == 0
    eventually(lambda: go.progress()["processed_tracks"])
    server.freeze()
    eventually(lambda: go.progress()["state"] == "waiting")
    told_for_half_of_the_time()
    server.end()
    told_for_half_of_the_time()
    done = go.progress()["processed_tracks"]
    server.start()
    began = time.monotonic()
    eventually(lambda: go.progress()["status"] != "running", 900)
    print(f"{done} of {MORE_TRACKS} tracks were done before, the rest {time.monotonic() - began:.0f} s after its start")
    progress = go.progress()
    assert [progress[key] for key in ("status", "processed_tracks", "failed_tracks")] == ["completed", MORE_TRACKS, 0]
    assert done < MORE_TRACKS
    assert go.playlist(seeds=seeds).json["tracks"]
    assert instance.run("stop").returncode == 0
    assert in_milvus(instance) == before | {model: before[model] + MORE_TRACKS for model in EMBEDDED}
    assert min(recalls(instance).values()) >= 0.99


def test_an_emptied_server_is_filled_again_from_the_database(server: MilvusServer, instance: Instance) -> None:
    before = in_milvus(instance)
    server.end()
    server.empty()
    server.start()
    began = time.monotonic()
    assert instance.run("rebuild_index").returncode == 0
    print(f"rebuild_index took {time.monotonic() - began:.0f} s")
    assert in_milvus(instance) == before
    wait_for_index(server)
    assert min(recalls(instance).values()) >= 0.99
