"""The socket to which Navidrome's server sends uploads: a line of JSON in, one JSON object out.

Its client knows no time-out and cannot do without an answer, so each request gets one, whatever it holds.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connections

from embeddings.errors import BadUpload
from embeddings.uploads.request import parse
from embeddings.uploads.service import STOPPED, Answer, Uploads, refusal
from navembed_site.process.patience import is_readable
from navembed_site.process.unix_socket import accepts

logger = logging.getLogger(__name__)

MOST_BYTES = 2**20  # of a request
REQUEST_SECONDS = 60.0  # for all of it: who is slower has stalled
ANSWER_SECONDS = 30.0  # for a client to take what it is sent
OTHERS_SECONDS = 5.0  # how often we look whether somebody else still listens there
FINISH_SECONDS = 1.5  # at the end, for what runs
END_SECONDS = 1.5  # then for what is broken off, to be answered: supervisor waits for 4 s


class _Handler(socketserver.BaseRequestHandler):
    server: UploadServer
    request: socket.socket

    def handle(self) -> None:
        try:
            answer = _encoded(self._answer())
            if self.server.claim(self.request):
                self._send(answer)
        except OSError as error:
            logger.info("a client went away before its answer: %s", error)
        finally:
            self.server.claim(self.request)
            connections.close_all()  # this thread's

    def _answer(self) -> Answer:
        try:
            request = parse(self._line())
        except BadUpload as error:
            return refusal(str(error))
        return self.server.uploads.answer(request, self._has_gone)

    def _line(self) -> bytes:
        """Return the first line; raises BadUpload when it is too long, or does not come."""
        began, line, size = time.monotonic(), b"", 0
        while b"\n" not in line:
            left = began + REQUEST_SECONDS - time.monotonic()
            if left <= 0 or not is_readable(self.request.fileno(), left):
                raise BadUpload(f"no whole request came within {REQUEST_SECONDS:.0f} s")
            received = self.request.recv(2**16)
            if not received:
                break
            size += len(received)
            if size <= MOST_BYTES:
                line += received
            elif b"\n" in received:
                break
        if size > MOST_BYTES:
            raise BadUpload(f"the request is longer than {MOST_BYTES:,} bytes")
        return line.partition(b"\n")[0]

    def _send(self, answer: bytes) -> None:
        """Send the answer; what else the client has to say is read away, or it might not get it."""
        self.request.settimeout(ANSWER_SECONDS)
        self.request.sendall(answer)
        self.request.shutdown(socket.SHUT_WR)
        until = time.monotonic() + ANSWER_SECONDS
        with suppress(TimeoutError):
            while time.monotonic() < until and self.request.recv(2**16):
                pass

    def _has_gone(self) -> bool:
        """Whether the client has closed its end; a half-closed one waits for our answer."""
        poll = select.poll()
        poll.register(self.request, 0)  # a hang-up is always reported
        return any(event & select.POLLHUP for _, event in poll.poll(0))


def _encoded(answer: Answer) -> bytes:
    try:
        return json.dumps(answer, allow_nan=False).encode() + b"\n"
    except (TypeError, ValueError) as error:
        logger.exception("an answer is no JSON")
        return _encoded(refusal(f"navembed failed with {type(error).__name__}: {error}"))


class UploadServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves on a unix socket of mode 0600, one thread a client.

    Waits, when made, until nobody else serves there. Clients can connect after ``listen``.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        self._stopping = threading.Event()
        self._path = path
        self._running: set[threading.Thread] = set()
        self._unanswered: set[socket.socket] = set()
        self.uploads = Uploads(self._stopping.is_set)
        self._take_place()
        super().__init__(str(path), _Handler, bind_and_activate=False)

    def listen(self) -> None:
        """Accepts connections. Call it once signals lead to ``stop``, which answers every client."""
        umask = os.umask(0o177)
        try:
            self.server_bind()
        finally:
            os.umask(umask)
        self.server_activate()

    def _take_place(self) -> None:
        """Wait until nobody listens there, and remove what is left of a socket."""
        while accepts(self._path):
            logger.warning(
                "Somebody else takes uploads at %s; waiting for its end. NAVEMBED_UPLOAD_SOCKET names another "
                "place, or is off.",
                self._path,
            )
            time.sleep(OTHERS_SECONDS)
        if self._path.is_socket():
            self._path.unlink(missing_ok=True)

    def process_request(self, request: Any, client_address: Any) -> None:
        """As the base class does, but the threads are known."""
        self._running = {thread for thread in self._running if thread.is_alive()}
        self._unanswered.add(request)
        self._run(self.process_request_thread, request, client_address)

    def claim(self, client: socket.socket) -> bool:
        """Whether nobody has answered this client: the caller does it then, and nobody else."""
        try:
            self._unanswered.remove(client)
        except KeyError:
            return False
        return True

    def stop(self) -> None:
        """Waits a moment for running requests, then breaks them off, and answers every client that still waits."""
        while select.select([self.socket], [], [], 0)[0]:
            self.process_request(*self.get_request())  # who has connected is answered, too
        self.server_close()
        self._wait(FINISH_SECONDS)
        self._stopping.set()
        self._run(self.uploads.close)  # a decoder that reads from a share which does not answer ends when that does
        self._wait(END_SECONDS)
        for client in [*self._unanswered]:
            if self.claim(client):
                with suppress(OSError):
                    client.sendall(_encoded(refusal(STOPPED)), socket.MSG_DONTWAIT)
                with suppress(OSError):  # what lies unread would reset the connection
                    while client.recv(MOST_BYTES, socket.MSG_DONTWAIT):
                        pass
        self._path.unlink(missing_ok=True)

    def _run(self, target: Callable[..., None], *given: Any) -> None:
        thread = threading.Thread(target=target, args=given, daemon=True)
        self._running.add(thread)
        thread.start()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self._running:
            thread.join(max(0.0, until - time.monotonic()))

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.error("a request could not be answered", exc_info=sys.exc_info()[1])
