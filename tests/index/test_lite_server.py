"""Our Lite server: one writer, one owner, nothing lost."""

from __future__ import annotations

import gc
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from embeddings.errors import IndexUnavailable
from embeddings.index.lite_server import READS, _open, _server, serve
from embeddings.index.store import VectorStore
from tests.index.conftest import DIMENSION, NAME, rows
from tests.milvus import LiteServer


def ids(store: VectorStore) -> set[str]:
    return set(store.ids(NAME))


def test_only_the_owner_may_connect(milvus: LiteServer) -> None:
    assert stat.S_IMODE(milvus.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(milvus.folder.stat().st_mode) == 0o700


def test_a_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.db"):
        serve(tmp_path / "index", tmp_path / "s")


def test_flushed_rows_survive_a_kill(store: VectorStore, milvus: LiteServer) -> None:
    store.upsert(NAME, rows(100), dimension=DIMENSION)
    store.flush(NAME)
    milvus.end(signal.SIGKILL)
    assert milvus.socket.exists()  # stale; the next start must replace it
    milvus.start()
    assert store.count(NAME) == 100  # which also had to load the collection
    assert store.search(NAME, rows(1)[0].vector, 1)[0].track_id == "t0"


def test_an_index_file_that_was_cut_short_is_no_obstacle(store: VectorStore, milvus: LiteServer) -> None:
    store.upsert(NAME, rows(100), dimension=DIMENSION)
    store.flush(NAME)
    (rows_file,) = milvus.folder.rglob("data_*.parquet")
    assert not list(milvus.folder.rglob("*.idx"))  # the vectors are written once
    milvus.end(signal.SIGKILL)
    cut_short = rows_file.parents[1] / "indexes" / f"{rows_file.stem}.vector.flat.idx"  # as Lite names it
    cut_short.parent.mkdir(exist_ok=True)
    cut_short.touch()
    milvus.start()
    assert store.search(NAME, rows(1)[0].vector, 1)[0].track_id == "t0"
    assert not cut_short.exists()


def test_a_clean_end_keeps_also_what_was_not_flushed(store: VectorStore, milvus: LiteServer) -> None:
    store.upsert(NAME, rows(100), dimension=DIMENSION)
    assert milvus.end(signal.SIGTERM) == 0
    assert not milvus.socket.exists()
    milvus.start()
    assert len(ids(store)) == 100


def test_concurrent_writers_lose_nothing_when_the_server_is_killed(store: VectorStore, milvus: LiteServer) -> None:
    """Stock Milvus Lite keeps none of these rows: its log is written by four threads at once."""
    acknowledged: set[str] = set()

    def write(prefix: str) -> None:
        number = 0
        while not done.is_set():
            part = [row._replace(track_id=f"{prefix}{number}-{row.track_id}") for row in rows(20)]
            try:
                store.upsert(NAME, part, dimension=DIMENSION)
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
        milvus.end(signal.SIGKILL)
        done.set()
    milvus.start()
    assert acknowledged <= ids(store)


def test_a_frozen_server_is_unavailable_within_the_time_out(store: VectorStore, milvus: LiteServer) -> None:
    milvus.send(signal.SIGSTOP)
    impatient = VectorStore(timeout=2)
    for call in (lambda: impatient.count(NAME), lambda: impatient.search(NAME, rows(1)[0].vector, 1)):
        with pytest.raises(IndexUnavailable):
            call()
    milvus.send(signal.SIGCONT)
    assert store.count(NAME) == 0


def test_a_new_client_of_a_frozen_server_is_told_within_the_time_out(
    store: VectorStore, milvus: LiteServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embeddings.index.connection._connections", {})
    milvus.send(signal.SIGSTOP)
    with pytest.raises(IndexUnavailable):
        VectorStore(timeout=2).count(NAME)


def test_a_server_that_is_down_is_unavailable_and_found_again(store: VectorStore, milvus: LiteServer) -> None:
    milvus.end(signal.SIGKILL)
    with pytest.raises(IndexUnavailable, match="nothing listens"):
        store.upsert(NAME, rows(1), dimension=DIMENSION)
    milvus.start()
    store.upsert(NAME, rows(1), dimension=DIMENSION)
    assert store.count(NAME) == 1


def test_a_second_server_waits_and_takes_over(store: VectorStore, milvus: LiteServer) -> None:
    store.upsert(NAME, rows(10), dimension=DIMENSION)
    first = milvus.process
    assert first is not None
    milvus.start(wait=False)
    milvus.wait_for_log("waiting to take over")
    assert store.count(NAME) == 10
    first.send_signal(signal.SIGINT)
    with first:
        assert first.wait(120) == 0
    milvus.wait_for_log("Milvus Lite serves", times=2)
    assert store.count(NAME) == 10


def test_two_clients_that_open_a_collection_at_once_get_the_same(store: VectorStore, milvus: LiteServer) -> None:
    store.upsert(NAME, rows(200), dimension=DIMENSION)
    milvus.end(signal.SIGKILL)
    milvus.start()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: store.count(NAME), range(8))) == [200] * 8
    store.upsert(NAME, rows(5, prefix="later"), dimension=DIMENSION)
    assert store.count(NAME) == 205


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_write_that_waited_longer_than_its_client_is_not_done(
    settings: Any, short_tmp: Path, unpatched: None
) -> None:
    settings.MILVUS_URI = f"unix:{short_tmp / 's'}"
    database, writing = _open(short_tmp / "x.db"), threading.Lock()
    server = _server(database, writing)
    server.add_insecure_port(settings.MILVUS_URI)
    server.start()
    store, impatient = VectorStore(), VectorStore(write_timeout=0.5)
    store.ensure_collection(NAME, DIMENSION)
    with writing:
        with pytest.raises(IndexUnavailable, match="DEADLINE_EXCEEDED"):
            impatient.upsert(NAME, rows(1), dimension=DIMENSION)
        time.sleep(1)  # the server's own clock for the call ends a little later
    store.upsert(NAME, rows(1, prefix="later"), dimension=DIMENSION)
    assert ids(store) == {"later0"}
    server.stop(grace=5).wait()
    database.close()
    del database, server
    gc.collect()  # Milvus Lite leaves a file of its log unclosed; let the filter above see it


def test_every_call_that_is_taken_for_a_read_exists_and_only_reads() -> None:
    from milvus_lite.adapter.grpc.servicer import MilvusServicer

    verbs = ("Check", "Connect", "Describe", "Get", "Has", "Hybrid", "List", "Query", "Search", "Show")
    assert vars(MilvusServicer).keys() >= READS
    assert all(name.startswith(verbs) for name in READS)
