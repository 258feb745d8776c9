"""The message of a job's end, against a real HTTP server."""

from __future__ import annotations

import ast
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import transaction
from django_q.models import OrmQ, Schedule
from standardwebhooks import Webhook, WebhookVerificationError

from batches import services, webhook
from batches.models import BatchJob
from batches.requests import JobRequest
from navembed_site import environment
from navembed_site.process.slow_calls import wait_for
from tests.batches.rows import make_job, make_tracks, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]
SECRET_PATH = "/hook/t0ken?key=s3cret"


@dataclass
class Receiver:
    """What was received, and the status to answer with."""

    url: str = ""
    status: int = 204
    location: str = ""
    answer: bytes = b""
    is_cut_off: bool = False
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.requests.append((self.path, dict(self.headers), body))
            self.send_response(received.status)
            if received.location:
                self.send_header("Location", received.location)
            self.send_header("Content-Length", str(len(received.answer)))
            self.end_headers()
            try:
                self.wfile.write(received.answer)
            except ConnectionError:
                received.is_cut_off = True

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        received.url = settings.WEBHOOK_URL = f"http://127.0.0.1:{server.server_port}{SECRET_PATH}"
        yield received
        server.shutdown()
        thread.join()


def ended_job() -> BatchJob:
    return set_status(make_job(make_tracks(2)), BatchJob.Status.COMPLETED)


def queued() -> list[Any]:
    return [message.task["args"] for message in OrmQ.objects.filter(key="light")]


def test_announced_end_arrives_with_its_figures(receiver: Receiver) -> None:
    job = ended_job()
    webhook.announce(job)
    [arguments] = queued()
    assert webhook.deliver(*arguments) == "delivered"
    [(path, headers, body)] = receiver.requests
    told = json.loads(body)
    assert (path, headers["User-Agent"], headers["Content-Type"]) == (SECRET_PATH, "navembed", "application/json")
    assert (told["job_id"], told["status"], told["total_tracks"]) == (job.pk, "completed", 2)
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (services.set_completed, "completed"),
        (lambda job: services.set_failed(job, "why"), "failed"),
        (services.cancel_job, "cancelling"),
    ],
)
def test_every_end_is_announced_once(settings: Any, end: Callable[[BatchJob], Any], status: str) -> None:
    settings.WEBHOOK_URL = "http://localhost/"
    job = services.start_job(JobRequest(["muq"]))
    for _ in range(2):
        end(job)
    if status == "cancelling":
        assert queued() == []
        services.set_cancelled(job)
    [(body, tries)] = queued()
    assert (json.loads(body)["status"], tries) == (job.status, 0)


def test_nothing_is_announced_without_an_address(settings: Any) -> None:
    settings.WEBHOOK_URL = ""
    webhook.announce(ended_job())
    assert queued() == []


def test_announcement_goes_with_the_transaction_of_the_end(settings: Any) -> None:
    settings.WEBHOOK_URL = "http://localhost/"
    with transaction.atomic():
        webhook.announce(ended_job())
        transaction.set_rollback(True)
    assert queued() == []


def test_duration_is_from_the_start_of_the_work_to_the_end() -> None:
    job = ended_job()
    services.BatchJob.objects.filter(pk=job.pk).update(started_at=job.created_at)
    job.refresh_from_db()
    told = webhook._payload(job)
    assert told["started_at"] == job.created_at.isoformat()
    assert told["duration_seconds"] == (job.finished_at - job.created_at).total_seconds()


@pytest.mark.parametrize("key", ["whsec_a2V5", "any words"])
def test_message_is_signed_as_others_verify_it(receiver: Receiver, settings: Any, key: str) -> None:
    settings.WEBHOOK_SECRET = environment.webhook_key(key)
    webhook.send('{"a": 1}')
    [(_, headers, body)] = receiver.requests
    assert Webhook(settings.WEBHOOK_SECRET).verify(body, headers) == {"a": 1}


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_message_that_is_sent_anew_by_others_is_known_by_its_signature(
    receiver: Receiver, settings: Any, name: str
) -> None:
    settings.WEBHOOK_SECRET = b"key"
    webhook.send("{}")
    [(_, headers, body)] = receiver.requests
    changed = headers | {name: str(int(headers["webhook-timestamp"]) + 1)}
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(b"key").verify(body, changed)


def test_message_that_is_tried_again_keeps_its_id(receiver: Receiver) -> None:
    for body in ("{}", "{}", '{"a": 1}'):
        webhook.send(body)
    first, again, other = [headers["webhook-id"] for _, headers, _ in receiver.requests]
    assert first == again != other


def test_a_long_answer_is_not_read(receiver: Receiver) -> None:
    receiver.answer = b"x" * 10_000_000  # more than the sockets hold
    webhook.send("{}")
    assert wait_for(lambda: receiver.is_cut_off, 60)


def test_user_and_password_of_the_address_become_a_header(receiver: Receiver, settings: Any) -> None:
    settings.WEBHOOK_URL = receiver.url.replace("://", "://anna:p%40ss@")
    webhook.send("{}")
    assert receiver.requests[0][1]["Authorization"] == "Basic YW5uYTpwQHNz"


def test_failed_message_is_tried_three_times_with_growing_pauses(receiver: Receiver) -> None:
    receiver.status = 500
    arguments: tuple[str, int] = ("{}", 0)
    runs = []
    for _ in range(2):
        assert webhook.deliver(*arguments) == "failed: HTTP status 500"
        again = Schedule.objects.latest("pk")
        arguments = ast.literal_eval(again.args)  # as Django-Q reads them
        runs.append(again.next_run)
    assert webhook.deliver(*arguments) == "failed: HTTP status 500"
    assert len(receiver.requests) == 3
    assert Schedule.objects.count() == 2
    assert runs[1] - runs[0] > webhook.PAUSES[0]


def test_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.status, receiver.location = 307, receiver.url
    assert webhook.deliver("{}", 0) == "failed: HTTP status 307"
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}/t0ken?s3cret", "http://127.0.0.1:{port}/t0ken s3cret"])
def test_failure_is_logged_without_the_address(settings: Any, address: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.WEBHOOK_URL = address.format(port=port)
    with caplog.at_level(logging.DEBUG):
        result = webhook.deliver("{}", 0)
    assert "failed" in result
    assert "t0ken" not in caplog.text + result
    assert "s3cret" not in caplog.text + result


def test_receiver_that_never_answers_is_given_up(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.WEBHOOK_URL = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert webhook.deliver("{}", 2) == "failed: ReadTimeout"
    assert not Schedule.objects.exists()


def test_command_sends_a_test(receiver: Receiver) -> None:
    call_command("send_test_webhook", stdout=StringIO())
    assert json.loads(receiver.requests[0][2])["event"] == "test"
    receiver.status = 404
    with pytest.raises(CommandError, match="Not delivered: HTTP status 404"):
        call_command("send_test_webhook")
