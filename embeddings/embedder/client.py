"""The one way to ask an embedder for something.

Ours, because httpx lets nobody choose the socket below its Unix transport; and this one does not count the time in
which its own process was stopped.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from embeddings.embedder.protocol import error_from_json, read_frame, read_outcome, request_to_json
from embeddings.embedder.work import Failure, FileHash, Step, TrackOutcome, TrackRequest
from embeddings.encoders.base import Description
from embeddings.errors import EmbedderDied, EmbedderStarting, EmbedderUnavailable, concerning
from navembed_site.process.locks import is_held
from navembed_site.process.patience import is_readable

BROKEN = (OSError, ValueError, KeyError, TypeError, http.client.HTTPException)
"""What reading an answer raises when it is cut off, late, or no answer of an embedder."""
Header = dict[str, Any]
Arrays = dict[str, NDArray[np.float32]]
T = TypeVar("T")
ANSWER_SECONDS = 2.0  # on top of what the embedder was given; then it is frozen
SILENCE_SECONDS = 30.0  # the embedder sends a heartbeat each second; longer silence means it is frozen


@dataclass(frozen=True)
class Heartbeat:
    """The embedder is alive; its last progress was ``idle_seconds`` ago."""

    idle_seconds: float


@dataclass(frozen=True)
class End:
    """All tracks are done, after so many seconds, without those of waiting for other requests and of loading models.

    For some of them the device has waited for files to be read, for some it has worked.
    """

    seconds: float = 0.0
    decode_seconds: float = 0.0
    device_seconds: float = 0.0


def socket_path(device: int = 0) -> Path:
    """Return the socket of the embedder of the device with this number."""
    first: Path = settings.EMBEDDER_SOCKET
    return first if device == 0 else first.with_stem(f"{first.stem}-{device}")


def lock_name(device: int) -> str:
    """Return the lock that the embedder of this device holds from its start to its end."""
    return f"embedder-{device}"


class EmbedderSilent(EmbedderDied):
    """It says nothing for too long: it is stopped, or hangs."""


class AnswerCutOff(EmbedderDied):
    """The connection has ended in the middle: it died, or gave up a caller that did not listen."""


class _PatientSocket(socket.socket):
    """Times out only for what is silent while we listen: not for the time in which we were stopped."""

    def recv_into(self, *arguments: Any) -> int:
        if not is_readable(self.fileno(), self.gettimeout() or 0.0):
            raise TimeoutError("timed out")
        return super().recv_into(*arguments)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("embedder", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = _PatientSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EmbedderClient:
    """Speaks to the embedder of one device. Every method raises EmbedderUnavailable when it does not answer."""

    def __init__(self, device: int = 0, *, timeout: float = SILENCE_SECONDS) -> None:
        self._device = device
        self._path = socket_path(device)
        self._timeout = timeout

    def pid(self) -> int:
        """Process id of the embedder that listens; 0 when none does, or when it lives in another container."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(self._timeout)
            try:
                peer.connect(str(self._path))
                return int(struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
            except OSError:
                return 0

    def kill(self, pid: int) -> None:
        """End the embedder that hangs, if it is still this process; its supervisor starts another."""
        if pid and self.pid() == pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Whether somebody has stopped the embedder's process (SIGSTOP), where the system tells."""
        with suppress(OSError):
            return Path(f"/proc/{self.pid()}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
        return False

    def status(self) -> dict[str, Any]:
        """Process, device and state of each model."""
        return self._json("GET", "/status")

    def describe(self, model: str) -> Description:
        """What the configured checkpoint makes of a model. Raises WeightsMissing, WeightsUnusable."""
        with concerning(model):
            # Hashing weights for the first time reads gigabytes, perhaps from a slow disk.
            return Description(**self._json("GET", f"/models/{model}", timeout=600))

    def embed_text(
        self, prompt: str, weights: Sequence[str] | None = None, *, wait_seconds: float
    ) -> NDArray[np.float32]:
        """Embed a prompt in the space of words and music; returns a unit vector, float32 [512].

        ``weights`` are the SHA-256 of those that the space to be searched was made with; raises FingerprintChanged
        when the text model has others. Raises TextNotReady after ``wait_seconds``, while its loading goes on;
        WeightsMissing, WeightsUnusable, DeviceOutOfMemory.
        """
        body = {"prompt": prompt, "weights": weights and list(weights), "wait_seconds": wait_seconds}
        answer = self._json("POST", "/text", body, timeout=wait_seconds + ANSWER_SECONDS)
        return np.array(answer["vector"], np.float32)

    def unload(self, model: str) -> bool:
        """Unload a model; False while it is in use or was not loaded."""
        return bool(self._json("POST", f"/models/{model}/unload")["unloaded"])

    def embed(
        self, requests: Sequence[TrackRequest], fingerprints: Mapping[str, str] | None = None, *, now: bool = False
    ) -> Generator[TrackOutcome | Step | Heartbeat | End]:
        """Embed tracks; yields what happens as it happens. Closing the iterator stops the work.

        ``fingerprints``, by model, are those of the spaces that the vectors are for.
        ``now``: somebody waits for it; its batches go before a job's next one.
        Raises FingerprintChanged, instead of a vector, when the embedder's differ; WeightsMissing, WeightsUnusable;
        EmbedderSilent when it freezes on the way, AnswerCutOff when it dies or gives us up.
        """
        body = {
            "tracks": [request_to_json(request) for request in requests],
            "fingerprints": dict(fingerprints or {}),
        }
        yield from self._events("/embed/now" if now else "/embed", body, _embed_event)

    def hash(self, paths: Sequence[str]) -> Generator[FileHash | Heartbeat | End]:
        """Hash the files' audio streams, several at a time; yields answers as they come, in no order.

        No model is loaded and nothing is decoded; a missing or damaged file is an answer. Closing the iterator
        stops the work. Raises EmbedderSilent and AnswerCutOff as ``embed`` does.
        """
        yield from self._events("/hash", {"paths": list(paths)}, _hash_event)

    def _events(self, path: str, body: dict[str, Any], parse: Callable[[str, Header, Arrays], T]) -> Generator[T]:
        """Yield what happens up to the end; raises the error that ends it instead."""
        try:
            with self._answer("POST", path, body, self._timeout) as answer:
                while frame := read_frame(answer):
                    header, arrays = frame
                    event = header.pop("event")
                    if event == "error":
                        raise error_from_json(header)
                    yield parse(event, header, arrays)
                    if event == "end":
                        return
        except TimeoutError as error:
            raise EmbedderSilent(f"the embedder stopped answering: {error}") from error
        except BROKEN as error:
            raise AnswerCutOff(f"the embedder stopped answering: {error or type(error).__name__}") from error
        raise AnswerCutOff("the embedder died while it was working")

    def _json(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, timeout: float | None = None
    ) -> dict[str, Any]:
        try:
            with self._answer(method, path, body, timeout or self._timeout) as answer:
                reply: dict[str, Any] = json.load(answer)
                return reply
        except BROKEN as error:
            raise EmbedderUnavailable(f"the embedder does not answer: {error or type(error).__name__}") from error

    @contextmanager
    def _answer(
        self, method: str, path: str, body: dict[str, Any] | None, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask, and yield what comes back; raises the error that the embedder answers with, or one of ``BROKEN``."""
        with closing(_UnixConnection(self._path, timeout)) as connection:
            try:
                connection.request(method, path, json.dumps(body) if body is not None else None)
            except OSError as error:
                if is_held(lock_name(self._device)):
                    raise EmbedderStarting("the embedder is starting, which takes some seconds") from error
                reason = error.strerror or str(error)
                raise EmbedderUnavailable(f"no embedder listens at {self._path.name}: {reason}") from error
            # The response keeps the socket open; closing it is what tells the embedder to stop.
            with closing(connection.getresponse()) as response:
                if response.status != http.client.OK:
                    raise error_from_json(json.load(response))
                yield response


def _embed_event(event: str, header: Header, arrays: Arrays) -> TrackOutcome | Step | Heartbeat | End:
    match event:
        case "outcome":
            return read_outcome(header, arrays)
        case "step":
            return Step(**header)
        case "heartbeat":
            return Heartbeat(**header)
        case "end":
            return End(**header)
    raise ValueError(f"no event is named {event}")


def _hash_event(event: str, header: Header, _: Arrays) -> FileHash | Heartbeat | End:
    match event:
        case "hash":
            failure = header.pop("failure")
            return FileHash(**header, failure=Failure(**failure) if failure else None)
        case "heartbeat":
            return Heartbeat(**header)
        case "end":
            return End()
    raise ValueError(f"no event is named {event}")
