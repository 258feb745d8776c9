"""The web server: waitress, and what keeps its port alive among strangers.

waitress reads heads and bodies, and writes answers, in one loop, so that a client that stalls costs a connection and
no thread. Added here: each such client has a deadline, and of too many, those that have waited longest are dropped, so
that no number of connections keeps others out. Slow calls have threads of their own, and so have polls and health
checks, which are answered at once. With more than ``CROWD`` connections, other answers wait until nobody new comes.
"""

from __future__ import annotations

import heapq
import json
import re
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache, partial
from typing import Any

from django.urls import reverse
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import Error, RequestHeaderFieldsTooLarge

from navembed_site.http import sockets
from navembed_site.http.problems import MEDIA_TYPE, PROGRAMS, problem

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]
# Names in urls.py.
ALIVE = ("healthz", "batch-progress")
SLOW = (
    "search", "embed-text", "embed-audio", "uploads", "playlist-list", "console:find", "console:save_playlist",
    "console:start", "console:begin",
)  # fmt: skip
SLOW_OF_ONE = ("console:make_playlist",)
NUMBER = re.compile(r"/[0-9]+/")
SIGN_IN = "admin:login"
TARGET = re.compile(rb"\s*[!-~]+ (/[^\s?#]*)[\s?#]")

MOST_CONNECTIONS = 256
MOST_PIPELINED = 8
ACCEPTED_AT_ONCE = 64
CROWD = 64
"""Connections. Among more, answers begin when nobody comes any more, or after ``HELD_SECONDS``."""
HELD_SECONDS = 0.25
HEAD_BYTES = 64 * 1024
MOST_HEADERS = 100
VERSIONS = ("1.0", "1.1")
LARGE_BODY = 2**20

HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
BODY_RATE = 10_000
"""Bytes a second that a body must come with, after the first ``BODY_SECONDS``."""
UNREAD_SECONDS = 20.0
IDLE_SECONDS = 120.0
"""More than Go's 90, so that Go ends a connection which nobody uses: what it sends while we do would be lost."""
STOP_SECONDS = 2.0


@cache
def _slow_paths() -> set[str]:
    return {*map(reverse, SLOW), *(reverse(name, args=[0]) for name in SLOW_OF_ONE)}


def is_slow(path: str) -> bool:
    """Whether what is asked there may take much longer than other calls."""
    return NUMBER.sub("/0/", path) in _slow_paths()


class Busy(Error):  # type: ignore[misc]
    """Answers 503."""

    code = 503
    reason = "Service Unavailable"

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:
        status, headers, body = super().to_response(ident)
        return status, [*headers, ("Retry-After", "5")], body


class Threads(ThreadedTaskDispatcher):  # type: ignore[misc]
    """So many threads, and at most so many calls that wait for them."""

    def __init__(self, number: int, *, waiting: int) -> None:
        super().__init__()
        self._waiting = waiting
        self.set_thread_count(number)

    @property
    def is_full(self) -> bool:
        return len(self.queue) >= self._waiting


class Request(HTTPRequestParser):  # type: ignore[misc]
    """A request while it comes. A body that will be refused is not read: the connection is closed after the answer."""

    path = ""  # until it is known
    error: Error | None
    body_rcv: Any

    def __init__(self, server: Server, adj: Any) -> None:
        super().__init__(adj)
        self._server = server
        self.deadline = time.monotonic() + HEAD_SECONDS

    def received(self, data: bytes) -> int:
        head = b"" if self.body_rcv else self.header_plus + data
        consumed = int(super().received(data))
        if self.error and head:  # perhaps it knows no path, or another one
            if self.header_bytes_received >= HEAD_BYTES:
                self.error = RequestHeaderFieldsTooLarge("The head is longer than 64 kB.")
            found = TARGET.match(head)
            self.path = found[1].decode("latin-1") if found else ""
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except TransferEncodingNotImplemented as error:
            raise ParsingError(*error.args) from error
        if self.version not in VERSIONS:  # also a first line without a target
            raise ParsingError("The first line is not one of HTTP/1.1.")
        lines = header_plus.split(b"\r\n")[1:]
        if any(line.startswith((b" ", b"\t")) for line in lines):  # others may read it as a header of its own
            raise ParsingError("A header goes on in a second line.")
        names = [line.partition(b":")[0] for line in lines if line]
        if len(names) > MOST_HEADERS:
            self._refuse(RequestHeaderFieldsTooLarge(f"There are more than {MOST_HEADERS} headers."))
        if any(b"_" in name for name in names):  # waitress leaves these out; they may be a proxy's
            self.headers["X_FORWARDED_UNDERSCORED"] = ""
        if self.chunked:
            self.headers["TRANSFER_ENCODING"] = "chunked"  # for the application, which refuses it
        if "TRANSFER_ENCODING" in self.headers or not self._server.takes(self.path, self.content_length):
            self._refuse()
        elif self.content_length > LARGE_BODY and self._server.large_bytes() + self.content_length > self._server.room:
            self._refuse(Busy("Too many large bodies are on their way."))
        self.deadline = time.monotonic() + BODY_SECONDS + self.content_length / BODY_RATE

    def _refuse(self, error: Error | None = None) -> None:
        """Wait for no body. Without an ``error`` the application says why."""
        if error:
            self.error = error
        self.body_rcv, self.content_length, self.expect_continue = None, 0, False
        self.headers["CONNECTION"] = "close"


class Task(WSGITask):  # type: ignore[misc]
    """A request while it is answered."""

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[sockets.CALLED] = self.channel.called
        environ["PATH_INFO"] = self.request.path  # waitress would take away a second slash at its beginning
        return environ

    def set_close_on_finish(self) -> None:
        """An answer without a body keeps the connection; waitress closes it, as if the length were unknown."""
        is_asked = self.version == "1.0" or self.request.headers.get("CONNECTION", "").lower() == "close"
        if self.has_body or is_asked:
            super().set_close_on_finish()


class Refusal(ErrorTask):  # type: ignore[misc]
    """What we answer without the application: in the language of those who call such an address."""

    def execute(self) -> None:
        error, path = self.request.error, self.request.path
        self.status, headers, body = error.to_response()
        fields = dict(headers)
        if path.startswith("/api/"):
            fields["Content-Type"] = MEDIA_TYPE
            body = json.dumps(problem(error.code, error.body, path)).encode()
        elif path.startswith(PROGRAMS):
            fields["Content-Type"] = "application/json"
            body = json.dumps({"error": error.body}).encode()
        self.response_headers.extend(fields.items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection."""

    task_class = Task
    error_task_class = Refusal
    is_held = False
    """Its request waits to be queued."""

    def __init__(self, server: Server, line: socket.socket, *arguments: Any, **options: Any) -> None:
        self.parser_class = partial(Request, server)
        self.called = str(line.getsockname()[0])
        self._came_in = server.round
        super().__init__(server, line, *arguments, **options)

    @property
    def last_activity(self) -> float:
        return self._active_at

    @last_activity.setter
    def last_activity(self, wall_clock: float) -> None:
        """waitress notes a time of day, which may be set back."""
        self._active_at = time.monotonic()

    def received(self, data: bytes) -> bool:
        is_wanted = bool(super().received(data))
        if len(self.requests) > MOST_PIPELINED:
            self.drop()
        return is_wanted

    def is_overdue(self, now: float) -> bool:
        """Whether nothing was heard or taken of it for longer than one has."""
        if self.total_outbufs_len:
            return now > self.last_activity + UNREAD_SECONDS
        if self.requests:
            return False
        return now > (self.request.deadline if self.request else self.last_activity + IDLE_SECONDS)

    def can_make_room(self) -> bool:
        """Whether nobody works for it, and what it had to say when it came has been read."""
        return (self.is_held or not self.requests) and self.server.round > self._came_in + 1

    def drop(self) -> None:
        """Close the connection, and let the kernel forget what is unsent."""
        with suppress(OSError, AttributeError):  # it is closed already; an error here would end the server
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.handle_close()


class Server(TcpWSGIServer):  # type: ignore[misc]
    """Serves ``application`` on a socket that listens already: connections wait in it while no server runs.

    ``body_limit`` tells how long a body may be, by path; ``room`` how many bytes all large bodies together may have.
    """

    channel_class = Channel

    def __init__(
        self, application: Application, listener: socket.socket, *, body_limit: Callable[[str], int], room: int
    ) -> None:
        self._body_limit, self.room = body_limit, room
        self._next_look = 0.0
        self.round = 0  # of looking who says something
        self._comes_somebody = False
        self._held: deque[Channel] = deque()
        self._held_since = 0.0
        self._paths_alive = {*map(reverse, ALIVE)}
        self._path_sign_in = reverse(SIGN_IN)
        self._alive = Threads(4, waiting=2 * MOST_CONNECTIONS)
        self._refusals = Threads(1, waiting=2 * MOST_CONNECTIONS)  # a crowd of them must not stand before `_alive`
        self._uploads = Threads(2, waiting=4)
        self._slow = Threads(4, waiting=16)
        self._sign_ins = Threads(2, waiting=4)
        self._others = Threads(8, waiting=128)
        super().__init__(
            application,
            _sock=listener,
            dispatcher=self._others,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
            max_request_header_size=HEAD_BYTES,
            max_request_body_size=sys.maxsize,  # see `takes`
            clear_untrusted_proxy_headers=False,  # they tell that a call is nobody's whom we trust
            log_socket_errors=False,
            ident="",
        )

    def run(self) -> None:
        """Serve until SystemExit or Ctrl-C."""
        try:
            while self._map:
                self._look()
                wasyncore.poll2(1, self._map)
        except (SystemExit, KeyboardInterrupt):
            end = time.monotonic() + STOP_SECONDS
            for threads in (self._others, self._slow, self._uploads, self._sign_ins, self._refusals, self._alive):
                threads.shutdown(timeout=max(0.0, end - time.monotonic()))

    def readable(self) -> bool:
        """Whether connections are accepted."""
        return len(self.active_channels) < 2 * MOST_CONNECTIONS

    def _look(self) -> None:
        """Drop connections that are overdue or too many, and queue what was held; before each wait for events.

        Not in ``readable``, which is part of that wait: the number of a dropped one could be the next connection's.
        """
        now = time.monotonic()
        self.round += 1
        if now >= self._next_look:
            self._next_look = now + 1
            for channel in list(self.active_channels.values()):
                if channel.is_overdue(now):
                    channel.drop()
        self._make_room()
        if self._held and self._comes_somebody and now < self._held_since + HELD_SECONDS:
            self.pull_trigger()  # look again at once
        else:
            while self._held:
                self._queue(self._held.popleft())
        self._comes_somebody = False

    def handle_accept(self) -> None:
        """Accept who is there."""
        self._comes_somebody = True
        for count in range(len(self.active_channels), len(self.active_channels) + ACCEPTED_AT_ONCE):
            with suppress(OSError):  # it has gone already; an error would close the port
                super().handle_accept()
            if len(self.active_channels) == count:
                break

    def _make_room(self) -> None:
        """Drop who has waited longest, and is not being answered, when there are too many."""
        if (too_many := len(self.active_channels) - MOST_CONNECTIONS) > 0:
            waiting = [channel for channel in list(self.active_channels.values()) if channel.can_make_room()]
            for channel in heapq.nsmallest(too_many, waiting, key=lambda channel: channel.last_activity):
                channel.drop()

    def add_task(self, channel: Channel) -> None:
        """Queue the channel's first request; in a crowd hold it back: answering delays reading from others."""
        if len(self.active_channels) < CROWD or channel.requests[0].path in self._paths_alive:
            self._queue(channel)
            return
        if not self._held:
            self._held_since = time.monotonic()
        channel.is_held = True
        self._held.append(channel)

    def _queue(self, channel: Channel) -> None:
        """Queue the channel's first request for the threads that answer its kind."""
        channel.is_held = False
        if not channel.connected:
            return
        request = channel.requests[0]
        threads = self._threads_for(request)
        if threads.is_full:
            request.error = Busy("Too many such calls wait for an answer. Try again in a few seconds.")
        (self._refusals if request.error else threads).add_task(channel)

    def _threads_for(self, request: Request) -> Threads:
        path = request.path
        if path in self._paths_alive:
            return self._alive
        if is_slow(path):
            is_upload = request.headers.get("CONTENT_TYPE", "").lower().startswith("multipart/")
            return self._uploads if is_upload else self._slow
        return self._sign_ins if path == self._path_sign_in and request.command == "POST" else self._others

    def takes(self, path: str, length: int) -> bool:
        return length <= LARGE_BODY or length <= self._body_limit(path)

    def large_bytes(self) -> int:
        """How many bytes the large bodies have that are on their way, or being answered."""
        channels = list(self.active_channels.values())
        lengths = [each.content_length for channel in channels for each in (channel.request, *channel.requests) if each]
        return sum(length for length in lengths if length > LARGE_BODY)
