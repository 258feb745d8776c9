"""What the embedder is asked for, and what comes back."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.summary import AudioSummary
from navembed_site.errors import NavembedError
from navembed_site.names import clean_text


@dataclass(frozen=True)
class TrackRequest:
    """A track to embed with some models. ``spool_name`` names its spooled rows when it is very long.

    ``sound``: its acoustic fingerprint is wanted, too.
    """

    id: str
    path: str
    models: tuple[str, ...]
    spool_name: str = ""
    sound: bool = False


@dataclass(frozen=True)
class TrackVector:
    """One model's embedding: float32 [dimension] of unit length."""

    vector: NDArray[np.float32]
    windows: int
    seconds: float
    """Of work on the device."""
    precision: str
    """In which the network computed it."""


@dataclass(frozen=True)
class Failure:
    """Why a track has no vector of a model."""

    error_class: str
    message: str
    stage: str
    permanent: bool
    traceback: str


@dataclass(frozen=True)
class TrackOutcome:
    """What became of a track: for every model that was asked for, a vector or a failure."""

    id: str
    vectors: dict[str, TrackVector] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    audio: AudioSummary | None = None


@dataclass(frozen=True)
class FileHash:
    """What a file's audio is known by, or why that cannot be said."""

    path: str
    audio_hash: str = ""
    failure: Failure | None = None


@dataclass(frozen=True)
class Step:
    """One device batch is done."""

    model: str
    track_id: str
    items: int
    seconds: float


def failure_of(error: Exception) -> Failure:
    """Describe an error for the row that stores it."""
    known = isinstance(error, NavembedError)
    return Failure(
        error_class=type(error).__name__,
        message=clean_text(error),
        stage=error.stage if isinstance(error, NavembedError) else "encode",
        permanent=error.permanent if isinstance(error, NavembedError) else True,
        traceback="" if known else clean_text("".join(traceback.format_exception(error))),
    )
