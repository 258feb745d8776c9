"""Every error under /api/ has the same shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client

from batches.api.v1 import jobs
from batches.models import BatchJob
from embeddings.errors import LibraryUnavailable

pytestmark = pytest.mark.django_db

JSON = "application/json"
FIELDS = ["type", "title", "status", "detail", "instance"]


def problem(reply: Any, status: int) -> dict[str, Any]:
    """The body, after what all of them have in common has been looked at."""
    assert (reply.status_code, reply["Content-Type"]) == (status, "application/problem+json"), reply.content
    body: dict[str, Any] = json.loads(reply.content)
    assert list(body)[: len(FIELDS)] == FIELDS
    assert (body["status"], body["instance"]) == (status, reply.wsgi_request.path)
    return body


def test_validation_names_the_fields(client: Client) -> None:
    reply = client.post("/api/v1/batches", json.dumps({"models": ["x"], "limit": 0}), content_type=JSON)
    body = problem(reply, 400)
    assert set(body["errors"]) == {"models.0", "limit"}
    assert body["type"] == "urn:navembed:problem:invalid"


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"limit": NaN}', b'{"limit": 1e400}', b"[" * 100_000, b"[]", b"1"])
def test_body_that_is_no_request(client: Client, body: bytes) -> None:
    problem(client.post("/api/v1/batches", body, content_type=JSON), 400)
    assert not BatchJob.objects.exists()


@pytest.mark.parametrize("address", ["/api/v1/batches/77", "/api/v1/batches/", "/api/v1/nothing", "/api/"])
def test_nothing_there(client: Client, address: str) -> None:
    problem(client.get(address), 404)


def test_wrong_method_names_the_right_ones(client: Client) -> None:
    reply = client.delete("/api/v1/batches")
    problem(reply, 405)
    assert reply["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_type_that_is_not_read(client: Client) -> None:
    problem(client.post("/api/v1/batches", "models=muq", content_type="application/x-www-form-urlencoded"), 415)


def test_type_that_is_not_written(client: Client) -> None:
    problem(client.get("/api/v1/batches", headers={"Accept": "text/html"}), 406)


@pytest.mark.parametrize("query", ["page_size=0", "page_size=x", "page_size=501", "page_size=１", "status=odd"])
def test_wrong_query(client: Client, query: str) -> None:
    body = problem(client.get(f"/api/v1/batches?{query}"), 400)
    assert next(iter(body["errors"])).startswith(query.partition("=")[0])


@pytest.mark.parametrize(
    "cursor", ["x", "%00", "ä", "cD1hYmM%3D", "cD0lMDA%3D", "cj1hYmMmcD0x", "bz0tMQ%3D%3D", "b" * 3000]
)
def test_hostile_cursor(client: Client, cursor: str) -> None:
    assert list(problem(client.get(f"/api/v1/batches?cursor={cursor}"), 400)["errors"]) == ["cursor"]


def raising(error: Exception) -> Any:
    def raise_it(*_: Any, **__: Any) -> None:
        raise error

    return raise_it


def test_fault_of_ours_tells_nothing_but_the_log(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "preview", raising(ZeroDivisionError("secret")))
    reply = client.post("/api/v1/batches/dry-run", content_type=JSON)
    assert "secret" not in json.dumps(problem(reply, 500))
    assert "secret" in caplog.text


@pytest.mark.parametrize("error", [LibraryUnavailable("no library"), OperationalError("gone")])
def test_what_is_away_comes_back(client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    monkeypatch.setattr(jobs, "preview", raising(error))
    problem(client.post("/api/v1/batches/dry-run", content_type=JSON), 503)


def test_contract_keeps_its_own_shape(client: Client) -> None:
    reply = client.post("/batch/start", b"{", content_type=JSON)
    assert (reply.status_code, list(reply.json())) == (400, ["error"])
