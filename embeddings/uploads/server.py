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
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import connections

from embeddings.errors import BadUpload
from embeddings.uploads.request import parse
from embeddings.uploads.service import Answer, Uploads, refusal
from navembed_site.process.patience import is_readable
from navembed_site.process.unix_socket import accepts

logger = logging.getLogger(__name__)

MOST_BYTES = 2**20  # of a request
REQUEST_SECONDS = 60.0  # for all of it: who is slower has stalled
ANSWER_SECONDS = 30.0  # for a client to take what it is sent
OTHERS_SECONDS = 5.0  # how often we look whether somebody else still listens there
STOP_SECONDS = 3.0  # for those that are answered at the end


class _Handler(socketserver.BaseRequestHandler):
    server: UploadServer
    request: socket.socket

    def handle(self) -> None:
        try:
            self._send(self._answer())
        except OSError as error:
            logger.info("a client went away before its answer: %s", error)
        finally:
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

    def _send(self, answer: Answer) -> None:
        """Send the answer; what else the client has to say is read away, or it might not get it."""
        self.request.settimeout(ANSWER_SECONDS)
        self.request.sendall(json.dumps(answer, allow_nan=False).encode() + b"\n")
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


class UploadServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves on a unix socket of mode 0600, one thread a client."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path) -> None:
        self._stopping = threading.Event()
        self._path = path
        self._clients: set[threading.Thread] = set()
        self.uploads = Uploads(self._stopping.is_set)
        self._take_place()
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(umask)

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
        self._clients = {client for client in self._clients if client.is_alive()}
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._clients.add(thread)
        thread.start()

    def stop(self) -> None:
        """Answer those who wait, without embedding what is not embedded yet."""
        self._stopping.set()
        while select.select([self.socket], [], [], 0)[0]:
            self.process_request(*self.get_request())  # who has connected is answered, too
        self.server_close()
        until = time.monotonic() + STOP_SECONDS
        for client in self._clients:
            client.join(max(0.0, until - time.monotonic()))
        self._path.unlink(missing_ok=True)
        self.uploads.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.error("a request could not be answered", exc_info=sys.exc_info()[1])
