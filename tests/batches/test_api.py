"""The batch routes as the Go server and the panel use them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from batches import services
from batches.models import BatchJob
from embeddings.encoders.registry import MODEL_KEYS
from tests.batches.rows import make_job, make_tracks, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]

JSON = "application/json"


class GoServer(Client):
    """Calls as the Go server does: JSON content type even on GET, no cookie, no token."""

    def start(self, body: Any = None, **headers: Any) -> Any:
        return self.post("/batch/start", json.dumps({} if body is None else body), content_type=JSON, **headers)

    def progress(self, **headers: Any) -> Any:
        return self.get("/batch/progress", content_type=JSON, headers={"Accept-Encoding": "gzip"}, **headers)

    def cancel(self, **headers: Any) -> Any:
        return self.generic("POST", "/batch/cancel", b"", content_type=JSON, **headers)


@pytest.fixture
def go() -> GoServer:
    return GoServer(enforce_csrf_checks=True)


# Start


def test_start_answers_with_the_jobs_id(go: GoServer) -> None:
    reply = go.start({"models": ["mert", "muq"], "clearExisting": True})
    job = BatchJob.objects.get()
    assert (reply.status_code, reply.json()) == (200, {"status": "started", "job_id": job.pk})
    assert (job.model_keys, job.clear_existing, job.started_by) == (["muq", "mert"], True, "Navidrome")


@pytest.mark.parametrize("body", [{}, {"models": None}, {"models": []}])
def test_start_without_models_means_all_and_clears_nothing(go: GoServer, body: Any) -> None:
    assert go.start(body).status_code == 200
    job = BatchJob.objects.get()
    assert (job.model_keys, job.clear_existing) == (list(MODEL_KEYS), False)


def test_start_without_a_body(go: GoServer) -> None:
    assert go.generic("POST", "/batch/start", b"", content_type=JSON).status_code == 200


def test_unknown_fields_are_ignored(go: GoServer) -> None:
    assert go.start({"models": ["muq"], "batchSize": 3}).status_code == 200


@pytest.mark.parametrize("status", BatchJob.OPEN)
def test_start_while_a_job_is_unfinished_names_it(go: GoServer, status: str) -> None:
    job = services.start_job()
    set_status(job, status)
    reply = go.start({"models": ["muq"]})
    assert (reply.status_code, reply.json()["job_id"]) == (400, job.pk)
    assert f"job {job.pk} is already running" in reply.json()["error"]


@pytest.mark.parametrize(
    "body",
    [{"models": ["vggish"]}, {"models": "muq"}, {"models": {"a": 1}}, {"clearExisting": "perhaps"}, [], [1], "x", 3],
)
def test_wrong_body_is_answered_with_a_sentence(go: GoServer, body: Any) -> None:
    reply = go.start(body)
    assert reply.status_code == 422
    assert isinstance(reply.json()["error"], str)
    assert not BatchJob.objects.exists()


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"NaN"])
def test_body_that_is_no_json_is_answered_with_json(go: GoServer, body: bytes) -> None:
    reply = go.generic("POST", "/batch/start", body, content_type=JSON)
    assert reply.status_code in (400, 422)
    assert isinstance(reply.json(), dict)


# Progress


def test_progress_before_any_job(go: GoServer) -> None:
    assert go.progress().json() == {"status": "no_job"}


def test_progress_of_a_running_job_has_the_contracts_types(go: GoServer) -> None:
    job = make_job(make_tracks(4), ("muq", "mert"))
    job.progress.filter(model="muq").update(succeeded=2, failed=1, rate=2.0, audio_seconds_done=6)
    job.progress.filter(model="mert").update(rate=1.0)
    fields = {"processed_tracks": 1, "failed_tracks": 1, "current_track": "[muq] Artist - Title"}
    BatchJob.objects.update(status="running", started_at=timezone.now(), **fields)
    reply = go.progress().json()
    assert (reply["job_id"], reply["status"], reply["total_tracks"]) == (job.pk, "running", 4)
    assert {name: reply[name] for name in fields} == fields
    assert reply["progress_percent"] == 37.5
    assert (reply["total_operations"], reply["processed_operations"], reply["failed_operations"]) == (8, 3, 1)
    left = reply["estimated_completion"] - timezone.now().timestamp()
    assert left == pytest.approx((8 - 6) / 2.0 + 8 / 1.0, abs=2)


def test_nothing_measured_yet_is_null(go: GoServer) -> None:
    make_job(make_tracks(1))
    reply = go.progress().json()
    assert (reply["current_track"], reply["estimated_completion"], reply["progress_percent"]) == (None, None, 0.0)
    assert isinstance(reply["progress_percent"], float)


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("initialized", "initialized"), ("running", "running"), ("waiting", "running"), ("cancelling", "running"),
        ("completed", "completed"), ("completed_with_errors", "completed_with_errors"), ("cancelled", "cancelled"),
        ("failed", "failed"),
    ],
)  # fmt: skip
def test_states_read_as_the_panel_knows_them(go: GoServer, state: str, status: str) -> None:
    services.start_job()
    set_status(BatchJob.objects.get(), state)
    reply = go.progress().json()
    assert (reply["state"], reply["status"]) == (state, status)


def test_unfinished_job_is_shown_before_a_newer_one(go: GoServer) -> None:
    first = set_status(services.start_job(), "cancelled")
    set_status(services.start_job(), "completed")
    services.resume_job(first)
    assert go.progress().json()["job_id"] == first.pk


def test_newest_job_is_shown_when_all_have_ended(go: GoServer) -> None:
    set_status(services.start_job(), "cancelled")
    newest = set_status(services.start_job(), "completed")
    assert go.progress().json()["job_id"] == newest.pk


def test_failed_tracks_do_not_keep_the_percentage_from_100(go: GoServer) -> None:
    job = make_job(make_tracks(2))
    job.progress.update(succeeded=1, failed=1)
    set_status(job, "completed_with_errors")
    assert go.progress().json()["progress_percent"] == 100.0


@pytest.mark.parametrize(("planned", "percent"), [(True, 100.0), (False, 0.0)])
def test_job_without_tracks_is_done_once_it_is_planned(go: GoServer, planned: bool, percent: float) -> None:
    set_status(services.start_job(), "completed" if planned else "cancelled")
    BatchJob.objects.update(planned=planned)
    assert go.progress().json()["progress_percent"] == percent


def test_progress_takes_few_queries(go: GoServer, django_assert_max_num_queries: Any) -> None:
    make_job(make_tracks(3), MODEL_KEYS)
    with django_assert_max_num_queries(3):
        go.progress()


@pytest.mark.django_db(transaction=True)
def test_progress_asks_for_no_session(go: GoServer, django_assert_num_queries: Any) -> None:
    go.cookies["sessionid"] = "x" * 32
    with django_assert_num_queries(2):
        go.progress()


# Cancel


def test_cancel_without_a_job(go: GoServer) -> None:
    assert go.cancel().status_code == 404


@pytest.mark.parametrize("status", ["completed", "completed_with_errors", "cancelled", "failed"])
def test_cancel_after_the_end(go: GoServer, status: str) -> None:
    set_status(services.start_job(), status)
    assert go.cancel().status_code == 404


def test_cancel_and_cancel_again(go: GoServer) -> None:
    job = services.start_job()
    for _ in range(2):
        reply = go.cancel()
        assert (reply.status_code, reply.json()["status"]) == (200, "cancelling")
    job.refresh_from_db()
    assert job.status == "cancelling"


# Addresses and callers


@pytest.mark.django_db(False)
def test_health_touches_nothing(go: GoServer) -> None:
    assert go.get("/healthz", content_type=JSON).json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/batch/start/", "/batch/progress/", "/batch/cancel/", "/healthz/"])
def test_a_trailing_slash_is_never_redirected(go: GoServer, path: str) -> None:
    assert go.post(path).status_code == 404


@pytest.mark.parametrize("path", ["/batch/start", "/batch/cancel"])
def test_nothing_happens_on_get(go: GoServer, path: str) -> None:
    services.start_job()
    assert go.get(path).status_code == 405


@pytest.mark.parametrize(
    "headers",
    [
        {"REMOTE_ADDR": "192.168.1.7"},
        {"REMOTE_ADDR": "fe80::1"},
        {"REMOTE_ADDR": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_ORIGIN": "https://example.org"},
        {"HTTP_ORIGIN": "null"},
        {"HTTP_ORIGIN": "http://localhost:4533", "HTTP_HOST": "localhost:9002"},
    ],
    ids=str,
)
def test_others_are_refused(go: GoServer, headers: dict[str, str]) -> None:
    for call in (go.start, go.progress, go.cancel):
        assert call(**headers).status_code == 403
    assert not BatchJob.objects.exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"REMOTE_ADDR": "127.0.0.1"},
        {"REMOTE_ADDR": "127.8.8.8"},
        {"REMOTE_ADDR": "::1"},
        {"HTTP_ORIGIN": "http://localhost:9002", "HTTP_HOST": "localhost:9002"},
    ],
    ids=str,
)
def test_programs_on_this_machine_may_call(go: GoServer, headers: dict[str, str]) -> None:
    assert go.progress(**headers).status_code == 200


def test_a_foreign_host_name_is_refused(go: GoServer) -> None:
    assert go.progress(HTTP_HOST="evil.example").status_code == 400
