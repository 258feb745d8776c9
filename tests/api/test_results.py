"""A job's results: filters, pages, and the table for a spreadsheet."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from batches.api.v1 import results
from batches.models import BatchJob
from embeddings.models import Track
from tests.api.conftest import SESSION, page_through
from tests.batches.rows import make_job, make_tracks
from tests.batches.test_indexes import explained, index

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def job() -> BatchJob:
    """Three tracks with two models; the second track failed with one of them."""
    made = make_job(make_tracks(3), ["muq", "mert"])
    made.results.update(status="succeeded")
    failed = {"status": "failed", "error_class": "AudioError", "error_message": "damaged"}
    made.results.filter(track="t001", model="mert").update(**failed)
    return made


def address(job: BatchJob, suffix: str = "") -> str:
    return f"/api/v1/batches/{job.pk}/results{suffix}"


def names(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["track"]["id"], row["model"]) for row in rows]


def test_result_says_of_which_track_and_why(client: Client, job: BatchJob) -> None:
    (row,) = client.get(address(job), {"status": "failed"}).json()["results"]
    assert (row["track"]["artist"], row["error_class"], row["error_message"]) == ("Artist", "AudioError", "damaged")


@pytest.mark.parametrize(
    ("query", "number"),
    [({"model": "muq"}, 3), ({"error_class": "AudioError"}, 1), ({"status": "failed", "model": "muq"}, 0), ({}, 6)],
)
def test_filters(client: Client, job: BatchJob, query: dict[str, str], number: int) -> None:
    assert len(client.get(address(job), query).json()["results"]) == number


def test_what_was_not_heard_is_in_list_and_table(client: Client, job: BatchJob) -> None:
    job.results.filter(track="t000").update(note="12 of 240 s could not be decoded")
    for rows in (client.get(address(job), {"model": "muq"}).json()["results"], table(client, job, model="muq")):
        assert [row["note"] for row in rows] == ["12 of 240 s could not be decoded", "", ""]


def test_pages_hold_every_result_once(client: Client, job: BatchJob) -> None:
    rows = page_through(client, f"{address(job)}?page_size=1")
    assert names(rows) == [(f"t00{n}", model) for n in range(3) for model in ("mert", "muq")]


def test_list_costs_the_same_however_many_there_are(
    client: Client, job: BatchJob, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(SESSION + 2):  # the job, and its results with their tracks
        client.get(address(job))


def test_failures_are_found_by_their_index(client: Client, job: BatchJob) -> None:
    with explained() as plans:
        client.get(address(job), {"status": "failed"})
    assert [index(plan) for plan in plans] in ([], ["INDEX result_failed_of_job (job_id=?)"])  # no plans: PostgreSQL


@pytest.mark.parametrize("suffix", ["", ".csv"])
def test_results_of_no_job(client: Client, suffix: str) -> None:
    assert client.get(f"/api/v1/batches/77/results{suffix}").status_code == 404


# The table


def table(client: Client, job: BatchJob, **query: str) -> list[dict[str, str]]:
    reply = client.get(address(job, ".csv"), query, headers={"Accept": "text/csv"})
    assert (reply.status_code, reply["Content-Type"]) == (200, "text/csv; charset=utf-8")
    return list(csv.DictReader(StringIO(b"".join(reply.streaming_content).decode())))


def test_table_has_what_the_list_has(client: Client, job: BatchJob) -> None:
    rows = table(client, job)
    assert len(rows) == 6
    (failed,) = table(client, job, status="failed")
    assert (failed["track"], failed["error_message"], failed["path"]) == ("t001", "damaged", "/music/t001.flac")


def test_table_is_read_in_slices(client: Client, job: BatchJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "SLICE", 3)  # ends within a track
    assert [(row["track"], row["model"]) for row in table(client, job)] == [
        (f"t00{n}", model) for n in range(3) for model in ("mert", "muq")
    ]


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠A1"])
def test_no_cell_is_a_formula(client: Client, job: BatchJob, title: str) -> None:
    Track.objects.update(title=title)
    reply = client.get(address(job, ".csv"))
    rows = list(csv.reader(StringIO(b"".join(reply.streaming_content).decode(), newline="")))
    assert {row[1] for row in rows[1:]} == {f"'{title}"}


def test_unknown_filter_of_a_table_is_a_problem(client: Client, job: BatchJob) -> None:
    reply = client.get(address(job, ".csv"), {"status": "odd"}, headers={"Accept": "text/csv"})
    assert (reply.status_code, reply["Content-Type"]) == (400, "application/problem+json")
