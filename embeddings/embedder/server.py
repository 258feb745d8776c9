"""How the embedder is asked: HTTP over a unix socket, of which `client.py` is the other end."""

from __future__ import annotations

import json
import logging
import os
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from embeddings.embedder.embedder import Embedder, RequestQueue
from embeddings.embedder.hashing import hash_files
from embeddings.embedder.protocol import (
    HEARTBEAT_SECONDS,
    error_to_json,
    request_from_json,
    write_frame,
    write_outcome,
)
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.errors import EmbedderDied, EmbedderUnavailable
from navembed_site.errors import NavembedError
from navembed_site.process.patience import Presence

logger = logging.getLogger(__name__)

CALLER_SECONDS = 60  # a caller that neither sends nor takes anything for so long is frozen
MAX_REQUEST_BYTES = 16 * 2**20
MAX_TEXT_WAIT_SECONDS = 600


class _CallerGone(Exception):
    """Nobody reads what we write."""


class _Stream:
    """Frames to one caller, with a heartbeat from a thread of its own until closed.

    Time in which we were stopped, or the caller took nothing, is not idle.
    """

    def __init__(self, write: Callable[[bytes], Any], idle_seconds: Callable[[], float]) -> None:
        self._write = write
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.broken = False
        self._thread.start()

    def write(self, data: bytes) -> None:
        with self._lock:
            if self.broken:
                raise _CallerGone  # half a frame may have gone out
            try:
                self._write(data)
            except OSError as error:
                self.broken = True
                raise _CallerGone from error

    def _beat(self) -> None:
        presence = Presence()
        with suppress(_CallerGone):
            while not self._closed.wait(HEARTBEAT_SECONDS):
                idle = min(self._idle_seconds(), presence.seconds())
                write_frame(self, {"event": "heartbeat", "idle_seconds": idle})

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: EmbedderServer
    timeout = CALLER_SECONDS

    def do_GET(self) -> None:
        manager = self.server.embedder.manager
        match self.path.strip("/").split("/"):
            case ["status"]:
                self._reply(self.server.embedder.status())
            case ["models", key] if key in manager.keys:
                self._guard(lambda: asdict(manager.model(key).describe()))
            case _:
                self.send_error(404, f"the embedder knows nothing of {self.path}")

    def do_POST(self) -> None:
        manager = self.server.embedder.manager
        match self.path.strip("/").split("/"):
            case ["embed"]:
                self._embed(self.server.embedder.jobs)
            case ["embed", "now"]:
                self._embed(self.server.embedder.interactive)
            case ["hash"]:
                self._hash()
            case ["text"]:
                self._text()
            case ["models", key, "unload"] if key in manager.keys:
                self._guard(lambda: {"unloaded": manager.unload(key)})
            case _:
                self.send_error(404, f"the embedder knows nothing of {self.path}")

    def _guard(self, action: Callable[[], dict[str, Any]]) -> None:
        """Reply with what ``action`` returns, or with its error."""
        try:
            answer = action()
        except Exception as error:
            self._reply(error_to_json(_named(error)), status=503)
            _end_if_lost(error)
        else:
            self._reply(answer)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer as ``_guard`` does what was asked wrongly; the base class calls it for what is not HTTP."""
        self._reply(error_to_json(NavembedError(message or str(code), stage="encode", permanent=True)), status=code)

    def _reply(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _hash(self) -> None:
        """Beside a chunk, with what decoders it leaves: no model and no turn on the device is needed."""
        try:
            paths = [os.fspath(path) for path in json.loads(self._read_body())["paths"]]
        except (KeyError, TypeError, ValueError) as error:
            self.send_error(400, f"not a list of paths: {type(error).__name__}: {error}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        began = time.monotonic()
        stream = _Stream(self.wfile.write, lambda: time.monotonic() - began)
        try:
            self._stream_hashes(stream, paths)
        except _CallerGone:
            logger.info("the caller that wanted %d files hashed has gone; the work stops", len(paths))
        finally:
            stream.close()

    def _stream_hashes(self, stream: _Stream, paths: list[str]) -> None:
        embedder = self.server.embedder
        with closing(hash_files(embedder.decoders, paths, lambda: embedder.closing or stream.broken)) as answers:
            for answer in answers:
                if embedder.closing:
                    break  # it may be a failure that the end of the decoders causes
                write_frame(stream, {"event": "hash", **asdict(answer)})
        if embedder.closing:
            closed = EmbedderUnavailable("the embedder is shutting down")
            write_frame(stream, {"event": "error", **error_to_json(closed)})
        else:
            write_frame(stream, {"event": "end"})

    def _text(self) -> None:
        try:
            body = json.loads(self._read_body())
            prompt, weights, seconds = body["prompt"], body["weights"], float(body["wait_seconds"])
            if not isinstance(prompt, str) or not 0 <= seconds <= MAX_TEXT_WAIT_SECONDS:
                raise ValueError("not a prompt with the seconds to wait")
        except (KeyError, TypeError, ValueError) as error:
            self.send_error(400, f"not a text: {type(error).__name__}: {error}")
            return
        texts = self.server.embedder.texts
        self._guard(lambda: {"vector": texts.embed(prompt, weights, seconds).tolist()})

    def _embed(self, queue: RequestQueue) -> None:
        try:
            requests, fingerprints = self._read_requests()
        except (KeyError, TypeError, ValueError) as error:
            self.send_error(400, f"not a list of tracks: {type(error).__name__}: {error}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        stream = _Stream(self.wfile.write, lambda: queue.idle_seconds)
        try:
            self._stream_events(stream, queue, requests, fingerprints)
        except _CallerGone:
            logger.info("the caller of a chunk of %d tracks has gone; its work stops", len(requests))
        finally:
            stream.close()

    def _read_body(self) -> bytes:
        length = int(self.headers.get("Content-Length", 0))
        if length > MAX_REQUEST_BYTES:
            left = length
            while left > 0 and (data := self.rfile.read(min(left, 2**20))):
                left -= len(data)  # who is still sending would not see the answer
            raise ValueError(f"{length} bytes, more than {MAX_REQUEST_BYTES}")
        return self.rfile.read(max(0, length))

    def _read_requests(self) -> tuple[list[TrackRequest], dict[str, str]]:
        known = self.server.embedder.manager.encoder_keys
        body = json.loads(self._read_body())
        requests = [request_from_json(track) for track in body["tracks"]]
        fingerprints = dict(body["fingerprints"])
        if not known.issuperset(fingerprints):
            raise ValueError(f"fingerprints of {list(fingerprints)}; there are {sorted(known)}")
        for request in requests:
            if not request.models or not known.issuperset(request.models):
                raise ValueError(f"{request.id} with models {list(request.models)}; there are {sorted(known)}")
        return requests, fingerprints

    def _stream_events(
        self, stream: _Stream, queue: RequestQueue, requests: list[TrackRequest], fingerprints: dict[str, str]
    ) -> None:
        embedder, before = self.server.embedder, dict[str, float]()

        def begin() -> None:
            embedder.require(fingerprints)
            before.update(self._seconds())

        try:
            with closing(queue.embed(requests, lambda: embedder.closing or stream.broken, begin)) as events:
                for event in events:
                    if embedder.closing:
                        break  # it may be a failure that the end of the decoders causes
                    if isinstance(event, TrackOutcome):
                        embedder.require_loaded(event.vectors, fingerprints)
                        write_outcome(stream, event)
                    else:
                        write_frame(stream, {"event": "step", **asdict(event)})
            if embedder.closing:
                raise EmbedderUnavailable("the embedder is shutting down")
            write_frame(stream, {"event": "end"} | {name: now - before[name] for name, now in self._seconds().items()})
        except _CallerGone:
            raise
        except Exception as error:
            write_frame(stream, {"event": "error", **error_to_json(_named(error))})
            _end_if_lost(error)

    def _seconds(self) -> dict[str, float]:
        embedder = self.server.embedder
        return {
            "seconds": time.monotonic() - embedder.manager.seconds_spent_loading,
            "decode_seconds": embedder.stages.of("decode"),
            "device_seconds": embedder.stages.of("encode"),
        }

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        logger.debug(format, *args)

    def address_string(self) -> str:
        return "local"


def _end_if_lost(error: Exception) -> None:
    """End this process when the device is lost to it: only a new one can use it again."""
    if isinstance(error, EmbedderDied):
        os.kill(os.getpid(), signal.SIGTERM)


def _named(error: Exception) -> NavembedError:
    """Return ``error`` as one that callers know."""
    if isinstance(error, NavembedError):
        return error
    logger.error("a request failed", exc_info=error)
    kind = EmbedderUnavailable if isinstance(error, OSError) else EmbedderDied
    return kind(f"the embedder failed with {type(error).__name__}: {error}")


class EmbedderServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """HTTP on a unix socket of mode 0600."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: Path, embedder: Embedder) -> None:
        path.unlink(missing_ok=True)  # the caller holds the lock of this embedder: the file is stale
        umask = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        finally:
            os.umask(umask)
        self.embedder = embedder

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            logger.info("a caller went away before its answer: %s", error)
        else:
            logger.error("a request could not be answered", exc_info=error)
