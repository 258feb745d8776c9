"""How the embedder and its callers speak: HTTP over a unix socket, answers in frames.

A frame is one line of JSON; when it has ``arrays``, their raw little-endian bytes follow in that order. A stream
that ends without an ``end`` or ``error`` frame was cut off: the embedder died.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from embeddings import errors
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.work import Failure, TrackOutcome, TrackRequest, TrackVector
from navembed_site.errors import NavembedError

MAX_LINE = 2**21  # the acoustic fingerprint of an hour takes half of it
HEARTBEAT_SECONDS = 1.0


class Writer(Protocol):
    def write(self, data: bytes, /) -> Any: ...


def write_frame(stream: Writer, header: dict[str, Any], arrays: dict[str, NDArray[np.float32]] | None = None) -> None:
    """Write one frame in a single call."""
    arrays = arrays or {}
    header["arrays"] = {name: list(array.shape) for name, array in arrays.items()}
    parts = [json.dumps(header).encode() + b"\n", *(np.ascontiguousarray(a, "<f4").tobytes() for a in arrays.values())]
    stream.write(b"".join(parts))


def read_frame(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]]] | None:
    """Read one frame; None at the end of the stream or when it was cut off in the middle."""
    line = stream.readline(MAX_LINE)
    if not line.endswith(b"\n"):
        return None
    header = json.loads(line)
    arrays = {}
    for name, shape in header.pop("arrays").items():
        size = 4 * int(np.prod(shape))
        data = stream.read(size)
        if len(data) < size:
            return None
        arrays[name] = np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
    return header, arrays


def request_to_json(request: TrackRequest) -> dict[str, Any]:
    return asdict(request)


def request_from_json(data: dict[str, Any]) -> TrackRequest:
    """Raises KeyError and TypeError when a field is absent or of another type."""
    models, sound = tuple(data["models"]), bool(data["sound"])
    return TrackRequest(str(data["id"]), str(data["path"]), models, str(data["spool_name"]), sound)


def write_outcome(stream: Writer, outcome: TrackOutcome) -> None:
    header = {
        "event": "outcome",
        "id": outcome.id,
        "vectors": {
            m: {"windows": v.windows, "seconds": v.seconds, "precision": v.precision}
            for m, v in outcome.vectors.items()
        },
        "failures": {m: asdict(failure) for m, failure in outcome.failures.items()},
        "audio": asdict(outcome.audio) if outcome.audio else None,
    }
    write_frame(stream, header, {m: v.vector for m, v in outcome.vectors.items()})


def read_outcome(header: dict[str, Any], arrays: dict[str, NDArray[np.float32]]) -> TrackOutcome:
    return TrackOutcome(
        id=header["id"],
        vectors={m: TrackVector(vector=arrays[m], **fields) for m, fields in header["vectors"].items()},
        failures={m: Failure(**fields) for m, fields in header["failures"].items()},
        audio=AudioSummary(**header["audio"]) if header["audio"] else None,
    )


def error_to_json(error: NavembedError) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "message": str(error),
        "stage": error.stage,
        "permanent": error.permanent,
        "model": error.model,
    }


def error_from_json(data: dict[str, Any]) -> NavembedError:
    """Return the error of the class that the embedder raised."""
    kind = getattr(errors, data["class"], NavembedError)
    error: NavembedError = kind(data["message"], stage=data["stage"], permanent=data["permanent"])
    error.model = data["model"]
    return error
