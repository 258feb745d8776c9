"""Our Lite server: one writer, one owner, nothing lost."""

from __future__ import annotations

import signal
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pymilvus import MilvusClient

from embeddings.errors import IndexUnavailable
from embeddings.milvus_lite_server import READS, serve
from embeddings.vector_store import IndexRow, VectorStore
from tests.index.conftest import DIMENSION, NAME, rows
from tests.milvus import LiteServer


def ids(store: VectorStore) -> set[str]:
    return set(store.ids(NAME))


def test_only_the_owner_may_connect(lite_server: LiteServer) -> None:
    assert stat.S_IMODE(lite_server.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(lite_server.folder.stat().st_mode) == 0o700


def test_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.db"):
        serve(tmp_path / "index", tmp_path / "s")


def test_flushed_rows_survive_a_kill(own_store: VectorStore, lite_server: LiteServer) -> None:
    own_store.upsert(NAME, rows(100), dimension=DIMENSION)
    own_store.flush(NAME)
    lite_server.end(signal.SIGKILL)
    lite_server.start()
    assert own_store.count(NAME) == 100  # which also had to load the collection
    assert own_store.search(NAME, rows(1)[0].vector, 1)[0].track_id == "t0"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end_keeps_also_what_was_not_flushed(
    own_store: VectorStore, lite_server: LiteServer, number: signal.Signals
) -> None:
    own_store.upsert(NAME, rows(100), dimension=DIMENSION)
    assert lite_server.end(number) == 0
    assert not lite_server.socket.exists()
    lite_server.start()
    assert len(ids(own_store)) == 100


def test_concurrent_writers_lose_nothing_when_the_server_is_killed(
    own_store: VectorStore, lite_server: LiteServer
) -> None:
    """Stock Milvus Lite keeps none of these rows: its log is written by four threads at once."""
    acknowledged: set[str] = set()

    def write(prefix: str) -> None:
        number = 0
        while not done.is_set():
            part = [row._replace(track_id=f"{prefix}{number}-{row.track_id}") for row in rows(20)]
            try:
                own_store.upsert(NAME, part, dimension=DIMENSION)
            except IndexUnavailable:
                return
            acknowledged.update(row.track_id for row in part)
            number += 1

    done = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        for prefix in "abcd":
            pool.submit(write, prefix)
        while len(acknowledged) < 2000:
            time.sleep(0.01)
        lite_server.end(signal.SIGKILL)
        done.set()
    lite_server.start()
    assert acknowledged <= ids(own_store)


def test_a_frozen_server_is_unavailable_within_the_time_out(
    own_store: VectorStore, lite_server: LiteServer
) -> None:
    lite_server.send(signal.SIGSTOP)
    for call in (lambda: own_store.count(NAME), lambda: own_store.search(NAME, rows(1)[0].vector, 1)):
        with pytest.raises(IndexUnavailable):
            call()
    lite_server.send(signal.SIGCONT)
    assert own_store.count(NAME) == 0


def test_a_new_client_of_a_frozen_server_is_told_within_the_time_out(
    own_store: VectorStore, lite_server: LiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embeddings.vector_store._connections", {})
    lite_server.send(signal.SIGSTOP)
    with pytest.raises(IndexUnavailable):
        own_store.count(NAME)


def test_a_server_that_is_down_is_unavailable_and_found_again(
    own_store: VectorStore, lite_server: LiteServer
) -> None:
    lite_server.end(signal.SIGKILL)
    with pytest.raises(IndexUnavailable, match="nothing listens"):
        own_store.upsert(NAME, rows(1), dimension=DIMENSION)
    lite_server.start()
    own_store.upsert(NAME, rows(1), dimension=DIMENSION)
    assert own_store.count(NAME) == 1


def test_a_second_server_waits_and_takes_over(own_store: VectorStore, lite_server: LiteServer) -> None:
    own_store.upsert(NAME, rows(10), dimension=DIMENSION)
    first = lite_server.process
    assert first is not None
    lite_server.start(wait=False)
    lite_server.wait_for_log("Another server holds")
    assert own_store.count(NAME) == 10
    first.terminate()
    assert first.wait(30) == 0
    lite_server.wait_for_log("Milvus Lite serves", times=2)
    assert own_store.count(NAME) == 10


def test_two_clients_that_open_a_collection_at_once_get_the_same(
    own_store: VectorStore, lite_server: LiteServer
) -> None:
    own_store.upsert(NAME, rows(200), dimension=DIMENSION)
    lite_server.end(signal.SIGKILL)
    lite_server.start()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: own_store.count(NAME), range(8))) == [200] * 8
    own_store.upsert(NAME, rows(5, prefix="later"), dimension=DIMENSION)
    assert own_store.count(NAME) == 205


def test_a_write_whose_client_has_gone_is_not_done(own_store: VectorStore, lite_server: LiteServer) -> None:
    impatient = VectorStore(timeout=2, write_timeout=0.5)
    lite_server.send(signal.SIGSTOP)
    with pytest.raises(IndexUnavailable):
        impatient.upsert(NAME, rows(1), dimension=DIMENSION)
    lite_server.send(signal.SIGCONT)
    own_store.upsert(NAME, rows(1, prefix="later"), dimension=DIMENSION)
    assert ids(own_store) == {"later0"}


def test_a_socket_left_by_a_killed_server_is_replaced(lite_server: LiteServer) -> None:
    lite_server.end(signal.SIGKILL)
    assert lite_server.socket.exists()
    lite_server.start()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(lite_server.socket))


def test_every_call_that_is_taken_for_a_read_exists_and_only_reads() -> None:
    from milvus_lite.adapter.grpc.servicer import MilvusServicer

    verbs = ("Check", "Connect", "Describe", "Get", "Has", "Hybrid", "List", "Query", "Search", "Show")
    assert vars(MilvusServicer).keys() >= READS
    assert all(name.startswith(verbs) for name in READS)


def test_rows_of_another_client_are_kept_apart_by_no_more_than_their_ids(
    own_store: VectorStore, lite_server: LiteServer
) -> None:
    client = MilvusClient(uri=f"unix:{lite_server.socket}", dedicated=True)
    row: IndexRow = rows(1)[0]
    client.upsert(NAME, [row._asdict() | {"vector": row.vector}], timeout=10)
    client.close()
    assert ids(own_store) == {"t0"}
