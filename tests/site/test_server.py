"""What the web server does with those who stall. tests/access/test_port.py tries it on a whole instance."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from waitress import wasyncore

from navembed_site.http import server, sockets
from navembed_site.http.server import Server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"x" * 2**26
Connect = Callable[..., socket.socket]


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/unchanged":
        start_response("304 Not Modified", [])
        return []
    body = LARGE if environ["PATH_INFO"] == "/large" else environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@contextmanager
def serving(listener: socket.socket) -> Iterator[None]:
    served = Server(application, listener, body_limit=lambda _: 2**22, room=2**23)
    thread = threading.Thread(target=served.run)
    thread.start()
    yield
    wasyncore.close_all(served._map)
    thread.join()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with sockets.listen("127.0.0.1", 0) as listener:
        yield listener


@pytest.fixture
def call(listener: socket.socket) -> Iterator[Connect]:
    """Connects, and says something, before somebody serves."""
    with ExitStack() as clients:

        def made(said: bytes = b"") -> socket.socket:
            client = clients.enter_context(socket.create_connection(listener.getsockname(), 60))
            client.sendall(said)
            return client

        yield made


@pytest.fixture
def connect(listener: socket.socket, call: Connect) -> Iterator[Connect]:
    """Connects to a server, and says something."""
    with serving(listener):
        yield call


def is_dropped(client: socket.socket, seconds: float = 60) -> bool:
    """Whether it is within so many seconds; reads nothing."""
    ends = select.poll()
    ends.register(client, select.POLLRDHUP)
    return bool(ends.poll(1000 * seconds))


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("HEAD_SECONDS", b"GET / HTTP/1.1\r\n"),
        ("BODY_SECONDS", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"),
        ("UNREAD_SECONDS", b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("IDLE_SECONDS", b""),
    ],
)
def test_who_stalls_is_dropped(connect: Connect, monkeypatch: pytest.MonkeyPatch, limit: str, said: bytes) -> None:
    monkeypatch.setattr(server, limit, 0.0)
    assert is_dropped(connect(said))


def test_who_has_waited_longest_makes_room(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    first, *others = connect(), connect(b"GET / HTTP/1.1\r\n"), connect(GET)
    assert connect(GET).recv(2**16).startswith(b"HTTP/1.1 200")
    assert is_dropped(first)
    assert not any(is_dropped(each, 0) for each in others)


def test_nobody_makes_room_before_it_was_heard(
    listener: socket.socket, call: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 3)
    first = call(GET.replace(b"/", b"/healthz", 1))
    for _ in range(5):
        call()
    with serving(listener):
        assert first.recv(2**16).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_in_a_crowd_everybody_is_answered_too(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(server, "CROWD", 0)
    monkeypatch.setattr(server, "HELD_SECONDS", seconds)
    assert all(each.recv(2**16).startswith(b"HTTP/1.1 200") for each in [connect(GET) for _ in range(20)])


def test_an_answer_without_a_body_keeps_the_connection(connect: Connect) -> None:
    unchanged = GET.replace(b"/", b"/unchanged", 1)
    client = connect(unchanged * 2 + unchanged.replace(b"1.1", b"1.0"))
    answers = client.makefile("rb").read()
    assert answers.count(b"304 Not Modified") == 3
    assert answers.count(b"Connection: close") == 1


def test_answers_of_one_connection_are_in_order_but_not_any_number(connect: Connect) -> None:
    assert connect(GET * 3 + GET.replace(b"1.1", b"1.0")).makefile("rb").read().count(b"200 OK") == 4
    assert is_dropped(connect(GET * 100))


def test_a_body_that_will_be_refused_is_not_waited_for(connect: Connect) -> None:
    client = connect(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4194305\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(12) == b"HTTP/1.1 200"  # of our application, which refuses nothing
    assert is_dropped(client)
