"""Two hosts work on one job over a network that fails; the short form, on Milvus Lite behind TCP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.cluster import Cluster, made_cluster
from tests.milvus import LiteServer

TRACKS = 60


@pytest.fixture
def cluster(short_tmp: Path) -> Iterator[Cluster]:
    milvus = LiteServer(short_tmp)
    milvus.start()
    with made_cluster(short_tmp, milvus.socket, TRACKS, ["latent"]) as made:
        yield made
    milvus.end()


def test_two_hosts_share_a_job_though_one_is_killed_and_one_is_cut_off(cluster: Cluster) -> None:
    first, second = cluster.hosts
    job = cluster.start_job()
    cluster.wait(lambda: cluster.written()["first"])
    with first.device_stands_still():  # lest it ends the job meanwhile
        cluster.wait(lambda: cluster.written()["second"])
        second.kill_all()
        second.work()
        first.link.cut()
    before = cluster.written()["second"]
    cluster.wait(lambda: cluster.written()["second"] > before)
    first.link.mend()
    cluster.wait_for_end(job)
    assert cluster.problems(job) == []
