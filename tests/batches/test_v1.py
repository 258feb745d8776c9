"""The API for people and scripts: jobs in line, and what one can do with them."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from batches import services
from batches.models import BatchJob
from tests.batches.rows import make_job, make_tracks, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/batches"
ELSEWHERE = "192.0.2.7"


def post(client: Client, path: str = "", body: Any = None, **extra: Any) -> Any:
    return client.post(URL + path, json.dumps(body or {}), content_type="application/json", **extra)


def test_second_job_waits_in_line(client: Client) -> None:
    first, second = (post(client, body={"models": ["muq"]}) for _ in range(2))
    assert (first.status_code, first.json()["status"], second.json()["status"]) == (201, "initialized", "queued")


@pytest.mark.parametrize("wrong", [{"models": ["vggish"]}, {"limit": 0}, {"library_id": "x"}])
def test_wrong_body_starts_nothing(client: Client, wrong: dict[str, Any]) -> None:
    assert post(client, body=wrong).status_code == 400
    assert not BatchJob.objects.exists()


def test_job_shows_its_counters(client: Client) -> None:
    job = make_job(make_tracks(2))
    shown = client.get(f"{URL}/{job.pk}").json()
    assert (shown["status"], shown["percent"], shown["models"][0]["total"]) == ("initialized", 0.0, 2)


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
    assert post(client, "/77/pause").status_code == 404


def test_strangers_are_refused(client: Client) -> None:
    assert post(client, REMOTE_ADDR=ELSEWHERE).status_code == 403
    assert client.get(URL, REMOTE_ADDR=ELSEWHERE).status_code == 403


def test_operator_may_call_from_elsewhere(client: Client) -> None:
    client.force_login(User.objects.create_superuser("admin"))
    assert post(client, REMOTE_ADDR=ELSEWHERE).json()["started_by"] == "admin"


def test_session_needs_its_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("admin"))
    assert post(client, REMOTE_ADDR=ELSEWHERE).status_code == 403
    assert not BatchJob.objects.exists()


# The command


def job_command(*arguments: str) -> str:
    out = StringIO()
    call_command("job", *arguments, stdout=out)
    return out.getvalue()


def test_command_acts_on_the_unfinished_job() -> None:
    job = services.start_job(["muq"])
    assert f"Job {job.pk} (muq): pausing" in job_command("pause")
    services.set_paused(job)
    assert "initialized" in job_command("resume", str(job.pk))
    assert json.loads(job_command("cancel", "--json"))[0]["state"] == "cancelling"


def test_command_lists_the_newest_first() -> None:
    ids = [set_status(services.start_job(), "failed").pk for _ in range(2)]
    assert [line.split()[1] for line in job_command("list").splitlines()] == [str(pk) for pk in ids[::-1]]


def test_command_says_why_it_cannot() -> None:
    with pytest.raises(CommandError, match="no job yet"):
        job_command("pause")
    set_status(services.start_job(), "completed")
    with pytest.raises(CommandError, match="is completed"):
        job_command("pause")
