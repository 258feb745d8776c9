"""The process that owns a device: models, decoders, batches. Everybody else asks it over a unix socket."""

from __future__ import annotations

import json
import logging
import os
import socketserver
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from embeddings.audio.pool import DecodePool
from embeddings.embedder.protocol import (
    HEARTBEAT_SECONDS,
    error_to_json,
    request_from_json,
    write_frame,
    write_outcome,
)
from embeddings.embedder.turns import Turns
from embeddings.errors import EmbedderDied, NavembedError
from embeddings.model_manager import ModelManager
from embeddings.pipeline import Pipeline
from embeddings.rows import forget_old_checkpoints
from embeddings.work import Step, TrackOutcome, TrackRequest

logger = logging.getLogger(__name__)

IDLE_CHECK_SECONDS = 5
MAX_REQUEST_BYTES = 16 * 2**20
KEEP_CHECKPOINTS_SECONDS = 7 * 86_400


class Embedder:
    """A device with its models and decoders. One job's chunk runs at a time; others go between its batches."""

    def __init__(self, manager: ModelManager, pool: DecodePool, spool: Path) -> None:
        self.manager = manager
        self.turns = Turns()
        self.chunk_lock = threading.Lock()
        self._pool = pool
        self._spool = spool
        self._pipeline = Pipeline(manager, pool, spool, turn=self.turns.job)
        self._closing = threading.Event()
        threading.Thread(target=self._unload_idle, name="idle", daemon=True).start()

    def embed(self, requests: list[TrackRequest]) -> Generator[TrackOutcome | Step]:
        """Embed a chunk; the caller holds ``chunk_lock``."""
        forget_old_checkpoints(self._spool, older_than=time.time() - KEEP_CHECKPOINTS_SECONDS)
        return self._pipeline.embed(requests)

    def status(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "models": self.manager.report(), "busy": self.chunk_lock.locked()}

    def close(self) -> None:
        self._closing.set()
        self._pool.close()
        self.manager.shutdown()

    def _unload_idle(self) -> None:
        while not self._closing.wait(IDLE_CHECK_SECONDS):
            self.manager.unload_idle()


class _Stream:
    """Frames to one caller, with a heartbeat from a thread of its own until closed."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self.broken = False
        self._thread.start()

    def write(self, data: bytes) -> None:
        with self._lock:
            self._progress = time.monotonic()
            self._write(data)

    def _beat(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            idle = time.monotonic() - self._progress
            try:
                with self._lock:
                    write_frame(_Raw(self._write), {"event": "heartbeat", "idle_seconds": idle})
            except OSError:
                self.broken = True  # the caller has gone; the run ends before its next batch
                return

    def close(self) -> None:
        self._closed.set()
        self._thread.join()


class _Raw:
    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self.write = write


class _Handler(BaseHTTPRequestHandler):
    server: EmbedderServer

    def do_GET(self) -> None:
        match self.path.strip("/").split("/"):
            case ["status"]:
                self._reply(self.server.embedder.status())
            case ["models", key]:
                self._guard(lambda: asdict(self.server.embedder.manager.encoder(key).describe()))
            case _:
                self.send_error(404)

    def do_POST(self) -> None:
        match self.path.strip("/").split("/"):
            case ["embed"]:
                self._embed()
            case ["models", key, "unload"]:
                self._guard(lambda: {"unloaded": self.server.embedder.manager.unload(key)})
            case _:
                self.send_error(404)

    def _guard(self, action: Callable[[], dict[str, Any]]) -> None:
        """Reply with what ``action`` returns, or with its error."""
        try:
            self._reply(action())
        except NavembedError as error:
            self._reply(error_to_json(error), status=503)
        except KeyError as error:
            self._reply(error_to_json(NavembedError(f"there is no model {error}", permanent=True)), status=404)

    def _reply(self, body: dict[str, Any], status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _embed(self) -> None:
        try:
            length = int(self.headers["Content-Length"])
            tracks = json.loads(self.rfile.read(min(length, MAX_REQUEST_BYTES)))["tracks"]
            requests = [request_from_json(track) for track in tracks]
        except (KeyError, TypeError, ValueError) as error:
            self.send_error(400, f"not a list of tracks: {error}")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        stream = _Stream(self.wfile.write)
        try:
            self._stream_events(stream, requests)
        except OSError:
            logger.info("the caller of a chunk of %d tracks has gone; its work stops", len(requests))
        finally:
            stream.close()

    def _stream_events(self, stream: _Stream, requests: list[TrackRequest]) -> None:
        embedder = self.server.embedder
        with embedder.chunk_lock:
            loading = embedder.manager.seconds_spent_loading
            events = embedder.embed(requests)
            try:
                for event in events:
                    if stream.broken:
                        return
                    if isinstance(event, TrackOutcome):
                        write_outcome(stream, event)
                    else:
                        write_frame(stream, {"event": "step", **asdict(event)})
                write_frame(
                    stream,
                    {"event": "end", "load_seconds": embedder.manager.seconds_spent_loading - loading},
                )
            except NavembedError as error:
                write_frame(stream, {"event": "error", **error_to_json(error)})
            except OSError:
                raise
            except Exception as error:
                logger.exception("a chunk of %d tracks failed", len(requests))
                broken = EmbedderDied(f"the embedder failed with {type(error).__name__}: {error}")
                write_frame(stream, {"event": "error", **error_to_json(broken)})
            finally:
                events.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class's name)
        logger.debug(format, *args)

    def address_string(self) -> str:
        return "local"


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
