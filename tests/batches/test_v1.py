"""The API for people and scripts: jobs in line, and what one can do with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from batches import services
from batches.models import BatchJob
from batches.requests import JobRequest
from tests.batches.conftest import Music
from tests.batches.rows import make_job, make_tracks, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/batches"
SESSION = 2  # queries by which a caller's session and user are found


@pytest.fixture
def client() -> Client:
    """An operator's, signed in."""
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def post(client: Client, path: str = "", body: Any = None, **extra: Any) -> Any:
    return client.post(URL + path, json.dumps(body or {}), content_type="application/json", **extra)


def test_second_job_waits_in_line(client: Client) -> None:
    first, second = (post(client, body={"models": ["muq"]}) for _ in range(2))
    assert (first.status_code, first.json()["status"], second.json()["status"]) == (201, "initialized", "queued")


@pytest.mark.parametrize("wrong", [{"models": ["vggish"]}, {"limit": 0}, {"library_id": "x"}])
def test_wrong_body_starts_nothing(client: Client, wrong: dict[str, Any]) -> None:
    assert post(client, body=wrong).status_code == 400
    assert not BatchJob.objects.exists()


@pytest.mark.parametrize("path", ["", "/dry-run"])
@pytest.mark.parametrize("body", [{"library_id": 99}, {"path_prefix": "/nowhere"}])
def test_part_of_the_library_that_does_not_exist_is_refused(
    client: Client, music: Music, path: str, body: dict[str, Any]
) -> None:
    reply = post(client, path, body)
    assert (reply.status_code, BatchJob.objects.count()) == (422, 0)
    assert str(music.root) in reply.json()["detail"] or "there are: 1 (Library 1)" in reply.json()["detail"]


def test_job_shows_its_counters(client: Client) -> None:
    job = make_job(make_tracks(2))
    shown = client.get(f"{URL}/{job.pk}").json()
    assert (shown["status"], shown["progress"]["percent"], shown["models"][0]["total"]) == ("initialized", 0.0, 2)


def test_newest_job_comes_first(client: Client) -> None:
    ids = [set_status(services.start_job(), "cancelled").pk for _ in range(3)]
    assert [job["id"] for job in client.get(URL).json()["results"]] == ids[::-1]


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("pause", "running", "pausing"),
        ("resume", "paused", "initialized"),
        ("cancel", "running", "cancelling"),
        ("cancel", "paused", "cancelled"),
    ],
)
def test_action_may_be_repeated(client: Client, action: str, before: str, after: str) -> None:
    job = set_status(services.start_job(), before)
    replies = [post(client, f"/{job.pk}/{action}") for _ in range(2)]
    assert [(reply.status_code, reply.json()["status"]) for reply in replies] == [(200, after)] * 2


def test_retry_failed(client: Client) -> None:
    job = make_job(make_tracks(1))
    job.results.update(status="failed")
    job.progress.update(failed=1)
    BatchJob.objects.update(failed_tracks=1)
    set_status(job, "completed_with_errors")
    assert post(client, f"/{job.pk}/retry-failed").json()["failed_tracks"] == 0


@pytest.mark.parametrize("action", ["pause", "resume", "cancel", "retry-failed"])
def test_action_that_comes_too_late_is_a_conflict(client: Client, action: str) -> None:
    job = set_status(services.start_job(), "completed")
    reply = post(client, f"/{job.pk}/{action}")
    assert (reply.status_code, reply.json()["detail"].startswith(f"job {job.pk} is completed")) == (409, True)


def test_unknown_job(client: Client) -> None:
    assert [post(client, f"/{pk}/pause").status_code for pk in (77, 10**30)] == [404, 404]
    assert client.get(f"{URL}/77").status_code == 404


# Once


def once(client: Client, key: str = "k1", **body: Any) -> Any:
    return post(client, body=body, headers={"Idempotency-Key": key})


def test_same_key_and_body_is_the_same_job(client: Client) -> None:
    first, second = once(client, models=["muq"]), once(client, models=["muq"])
    assert (first.status_code, second.status_code, second.json()["id"]) == (201, 200, first.json()["id"])
    assert first["Location"].endswith(f"{URL}/{first.json()['id']}")


def test_key_for_something_else_is_a_conflict(client: Client) -> None:
    assert [once(client, limit=limit).status_code for limit in (5, 6)] == [201, 409]


def test_other_key_is_another_job(client: Client) -> None:
    assert once(client, "a").json()["id"] != once(client, "b").json()["id"]


@pytest.mark.parametrize("key", ["with space", "ä", "x" * 201])
def test_unusable_key_starts_nothing(client: Client, key: str) -> None:
    reply = once(client, key)
    assert (reply.status_code, list(reply.json()["errors"])) == (400, ["Idempotency-Key"])
    assert not BatchJob.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_request_sent_twice_at_once_gives_one_job() -> None:
    def send(_: int) -> tuple[BatchJob, bool]:
        try:
            return services.start_once(JobRequest(["muq"]), "k", started_by="me")
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(send, range(8)))
    assert len({job.pk for job, _ in answers}) == 1
    assert [is_new for _, is_new in answers].count(True) == 1


# Polling


def test_unchanged_job_is_not_sent_again_and_costs_one_query_beside_its_session(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    job = make_job(make_tracks(2), ["muq", "mert"])
    tag = client.get(f"{URL}/{job.pk}")["ETag"]
    with django_assert_num_queries(SESSION + 1):
        reply = client.get(f"{URL}/{job.pk}", headers={"If-None-Match": tag})
    assert (reply.status_code, reply.content, reply["ETag"]) == (304, b"", tag)


@pytest.mark.parametrize(
    "change",
    [
        lambda job: BatchJob.objects.update(current_track="[muq] x"),
        lambda job: BatchJob.objects.update(message="waiting"),
        lambda job: job.progress.update(rate=3.5),
        lambda job: set_status(job, "running"),
    ],
)
def test_every_change_gives_another_tag(client: Client, change: Callable[[BatchJob], object]) -> None:
    job = make_job(make_tracks(1))
    tag = client.get(f"{URL}/{job.pk}")["ETag"]
    change(job)
    assert client.get(f"{URL}/{job.pk}", headers={"If-None-Match": tag}).status_code == 200


# The list


def listed(client: Client, **query: Any) -> list[int]:
    return [job["id"] for job in client.get(URL, query).json()["results"]]


def test_list_is_filtered(client: Client) -> None:
    ended = set_status(services.start_job(started_by="schedule"), "failed")
    running = set_status(services.start_job(started_by="me"), "running")
    assert listed(client, status="failed") == [ended.pk]
    assert listed(client, status=["failed", "running"]) == [running.pk, ended.pk]
    assert listed(client, started_by="me") == [running.pk]
    assert listed(client, created_after=running.created_at.isoformat()) == [running.pk]
    assert listed(client, created_before=running.created_at.isoformat()) == [ended.pk]


def test_pages_hold_every_job_once(client: Client) -> None:
    ids = [set_status(services.start_job(), "failed").pk for _ in range(5)]
    found, address = [], f"{URL}?page_size=2"
    while address:
        page = client.get(address).json()
        found += [job["id"] for job in page["results"]]
        address = page["next"]
    assert found == ids[::-1]


def test_list_costs_the_same_however_many_there_are(
    client: Client, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        set_status(services.start_job(), "failed")
    with django_assert_num_queries(SESSION + 2):
        listed(client)


def test_strangers_are_refused() -> None:
    assert post(Client()).status_code == 401
    assert Client().get(URL).status_code == 401


def test_job_names_who_started_it(client: Client) -> None:
    assert post(client).json()["started_by"] == "admin"
