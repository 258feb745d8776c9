"""Two hosts work on a job of 200 tracks with a Milvus server, in networks of their own; the long form."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.cluster import Cluster, Slowed, made_cluster
from tests.milvus_server import MilvusServer

TRACKS = 200
CUT_SECONDS = AWAY_SECONDS = 120

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture
def milvus(short_tmp: Path) -> Iterator[MilvusServer]:
    server = MilvusServer(short_tmp)
    server.start()
    yield server
    server.close()


@pytest.fixture
def cluster(short_tmp: Path, milvus: MilvusServer) -> Iterator[Cluster]:
    with made_cluster(short_tmp, milvus.socket, TRACKS) as made:
        yield made


def test_both_take_part_and_every_result_is_written_once(cluster: Cluster) -> None:
    job = cluster.start_job()
    cluster.wait_for_end(job)
    assert min(cluster.written()[host.name] for host in cluster.hosts) > 0.2 * cluster.written().total()
    assert cluster.problems(job) == []


@pytest.mark.parametrize("victim", [0, 1], ids=["the one that has planned, perhaps", "the other one"])
def test_the_other_host_ends_the_job_of_one_that_is_killed_for_good(cluster: Cluster, victim: int) -> None:
    job = cluster.start_job()
    cluster.wait(lambda: len(cluster.written()) == 2)
    cluster.hosts[victim].kill_all()
    cluster.wait_for_end(job)
    assert cluster.problems(job) == []


@pytest.mark.parametrize("victim", [0, 1], ids=["first", "second"])
def test_host_that_is_cut_off_for_minutes_takes_part_again(cluster: Cluster, victim: int) -> None:
    host = cluster.hosts[victim]
    job = cluster.start_job()
    cluster.wait(lambda: len(cluster.written()) == 2)
    host.link.cut()
    time.sleep(CUT_SECONDS)
    before = cluster.written()
    host.link.mend()
    cluster.wait_for_end(job)
    print(f"written until the network was back {before}, at the end {cluster.written()}")
    assert cluster.problems(job) == []


def test_job_waits_for_milvus_that_is_away_for_minutes_and_goes_on(cluster: Cluster, milvus: MilvusServer) -> None:
    job = cluster.start_job()
    cluster.wait(lambda: len(cluster.written()) == 2)
    milvus.end()
    cluster.wait(lambda: cluster.hosts[0].status_of(job) == "waiting")
    time.sleep(AWAY_SECONDS)
    assert "Milvus" in cluster.message_of(job)
    milvus.start()
    cluster.wait_for_end(job)
    assert cluster.problems(job) == []


def test_slow_device_gets_less_to_do_and_does_not_hold_the_end(cluster: Cluster) -> None:
    fast, slow = cluster.hosts
    with Slowed(slow, 5):
        cluster.wait_for_end(cluster.start_job(limit=TRACKS // 4))  # in which both are measured
        job = cluster.start_job()
        cluster.wait_for_end(job)
    of_fast, of_slow = cluster.chunks(fast.name), cluster.chunks(slow.name)
    print(f"vectors of each chunk: {of_fast} and {of_slow}")
    assert sum(of_fast) > 2 * sum(of_slow) > 0
    # What it had in hand at last is as many seconds of its own work as the other's chunks: so much fewer tracks.
    assert 2 * of_slow[-1] <= max(of_fast)
    assert cluster.problems(job, must_fail={}) == []  # the first job has found the damaged file
