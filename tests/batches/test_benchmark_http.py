"""``manage.py benchmark http`` and its load; its figures say nothing here."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from navembed_site.benchmarks import load

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_GET(self) -> None:
        known = self.headers["If-None-Match"] == '"tag"'
        self.send_response(304 if known else self.status)
        self.send_header("etag", '"tag"')
        if not known:
            self.send_header("content-length", "100000")
        self.end_headers()
        if not known:
            self.wfile.write(b"x" * 100_000)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Its callers leave in the middle of an answer when their time is over."""


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_answers_are_counted_and_timed(port: int) -> None:
    found = load.run(port, REQUEST, connections=3, seconds=0.5, tagged=False)
    assert found.answers > 3
    assert (found.errors, found.unchanged) == ({}, 0)
    assert 0 < found.milliseconds[0] <= found.milliseconds[1] <= found.milliseconds[2]


def test_last_tag_is_sent_again(port: int) -> None:
    found = load.run(port, REQUEST, connections=3, seconds=0.5, tagged=True)
    assert found.unchanged == found.answers - 3


def test_other_answers_are_errors(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "status", 503)
    found = load.run(port, REQUEST, connections=1, seconds=0.2, tagged=False)
    assert found.errors == {"status 503": found.answers}


@pytest.mark.soak
def test_every_address_is_measured_while_a_batch_runs() -> None:
    out = StringIO()
    call_command("benchmark", "http", "--connections", "2", "--seconds", "1", "--tracks", "60", "--json", stdout=out)
    figures = {figure["what"]: figure for figure in json.loads(out.getvalue())}
    for address in ("/batch/progress", "/api/v1/batches/{id}", "the same with ETags"):
        assert figures[f"{address}: answers a second"]["value"] > 0
    assert figures["the same with ETags: unchanged, 304"]["value"] > 0
    assert figures["/batch/progress: 99 of 100"]["wanted"] == 50


def test_too_much_is_refused() -> None:
    with pytest.raises(CommandError, match="from 1 to 64"):
        call_command("benchmark", "http", "--connections", "65")
