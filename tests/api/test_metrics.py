"""What Prometheus is told, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import DjangoAssertNumQueries

from batches.models import ModelProgress
from embeddings.models import Embedding
from tests.api.conftest import SESSION
from tests.batches.rows import make_embedding, make_job, make_space, make_track, make_tracks
from tests.instances import EmbedderProcess

pytestmark = [pytest.mark.django_db, pytest.mark.database]

Labels = dict[str, str]


@pytest.fixture(autouse=True)
def no_embedder(settings: Any) -> None:
    settings.EMBEDDER_SOCKET = settings.NAVEMBED_HOME / "nobody.sock"


def scrape(client: Client) -> dict[str, list[tuple[Labels, float]]]:
    reply = client.get("/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"})
    assert (reply.status_code, reply["Content-Type"].partition(";")[0]) == (200, "text/plain")
    families = text_string_to_metric_families(reply.content.decode())
    samples: dict[str, list[tuple[Labels, float]]] = {}
    for family in families:
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


def value(samples: dict[str, list[tuple[Labels, float]]], name: str, **labels: str) -> float:
    return next(number for of_sample, number in samples[name] if of_sample == labels)


def test_job_at_work_is_told_by_its_counters(client: Client) -> None:
    job = make_job(make_tracks(4), ["muq"])
    ModelProgress.objects.update(succeeded=2, failed=1, rate=50.0)
    samples = scrape(client)
    assert value(samples, "navembed_jobs", status="initialized") == 1
    assert value(samples, "navembed_job_tracks", state="total") == job.total_tracks
    assert value(samples, "navembed_job_results_pending", model="muq") == 1
    assert value(samples, "navembed_operations_done", model="muq", outcome="failed") == 1
    assert value(samples, "navembed_rate", model="muq") == 50


def test_errors_are_counted_by_class(client: Client) -> None:
    job = make_job(make_tracks(3), ["muq"])
    job.results.filter(track__in=["t000", "t001"]).update(status="failed", error_class="AudioError")
    assert value(scrape(client), "navembed_errors", error_class="AudioError", model="muq") == 2


def test_what_waits_for_milvus_is_counted(client: Client) -> None:
    space = make_space("muq")
    make_embedding(space, make_track("a"))
    make_embedding(space, make_track("b"), index_state=Embedding.IndexState.INDEXED)
    samples = scrape(client)
    assert value(samples, "navembed_embeddings_not_indexed", model="muq") == 1
    assert value(samples, "navembed_embeddings", model="muq", status="live") == 2
    assert value(samples, "navembed_library_tracks") == 2


def test_embedder_that_is_away_is_down(client: Client) -> None:
    samples = scrape(client)
    assert value(samples, "navembed_up", process="embedder-0") == 0
    assert value(samples, "navembed_up", process="database") == 1
    assert "navembed_model_loaded" not in samples


def test_embedder_tells_of_models_and_stages(client: Client, embedder: EmbedderProcess, settings: Any) -> None:
    settings.EMBEDDER_SOCKET = embedder.socket
    samples = scrape(client)
    assert value(samples, "navembed_up", process="embedder-0") == 1
    assert {labels["model"] for labels, _ in samples["navembed_model_bytes"]} >= {"muq", "mert", "latent"}
    assert value(samples, "navembed_stage_seconds_total", embedder="0", stage="load", model="") >= 0


def test_second_scrape_asks_nothing(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    scrape(client)
    with django_assert_num_queries(SESSION):
        scrape(client)


def test_scrape_counts_rows_of_nothing_large(client: Client) -> None:
    """A million results: only those that failed are looked at, up to a limit."""
    make_job(make_tracks(1), ["muq"])
    with connection.execute_wrapper(lambda run, *args: seen.append(args[0]) or run(*args)):
        seen: list[str] = []
        scrape(client)
    of_results = [sql for sql in seen if "batches_trackresult" in sql]
    assert len(of_results) == 1
    assert "LIMIT 10000" in of_results[0]


def test_strangers_see_nothing() -> None:
    assert Client().get("/metrics").status_code == 401
