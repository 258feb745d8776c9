"""The way from words to a model that cannot read: a regression from the native model's space, learnt from the library.

A bridge is a file of two tensors and their origin in the checkpoints' folder, in the format of safetensors: nothing in
it can be run. It is mapped, not read: MERT's has 157 MB.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from numpy.typing import NDArray

from embeddings.errors import TextUnavailable
from embeddings.models import EmbeddingSpace

FORMAT = "navembed text bridge"
VERSION = "1"
MAX_HEADER_BYTES = 2**20


@dataclass(frozen=True)
class Origin:
    """What a bridge was learnt from, and what it is worth; kept in the file as text."""

    model: str
    words: str
    """Fingerprint of the space that it leads from."""
    fingerprint: str
    """Fingerprint of the space that it leads to."""
    tracks: int
    strength: float
    explained: float
    """Share of the variance that it explains of tracks it has not seen."""
    recall: float
    """Share of the tracks kept aside that are among the ten nearest to what it makes of their own MuQ mean."""
    kept_aside: int


@dataclass(frozen=True)
class Bridge:
    """A fitted bridge: weights float32 [words, dimension], intercept float32 [dimension]."""

    origin: Origin
    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]

    def apply(self, words: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a unit vector [words] over; returns a unit vector [dimension]. Raises TextUnavailable when damaged."""
        vector = words @ self.weights + self.intercept
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0:
            raise TextUnavailable(_damaged(self.origin.model))
        return np.asarray(vector / length, np.float32)


def bridge_path(model: str) -> Path:
    folder: Path = settings.CHECKPOINT_DIR
    return folder / f"text_bridge_{model}.safetensors"


def write_bridge(bridge: Bridge) -> Path:
    """Write a bridge in place of the former one; at no moment is there half a file. Raises OSError."""
    from safetensors.numpy import save_file

    path = bridge_path(bridge.origin.model)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}")
    facts = {name: str(value) for name, value in vars(bridge.origin).items()}
    tensors = {"weights": bridge.weights, "intercept": bridge.intercept}
    try:
        save_file(tensors, part, metadata={"format": FORMAT, "version": VERSION, **facts})
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def bridge_between(words: EmbeddingSpace | None, space: EmbeddingSpace | None, model: str) -> Bridge:
    """Return the bridge from the space of words to ``space`` of ``model``. Raises TextUnavailable with what to run."""
    path = bridge_path(model)
    try:
        stat = path.stat()
    except OSError:
        raise TextUnavailable(
            f"{model} cannot be searched by text yet; `manage.py fit_text_bridge {model}` learns a way from the library"
        ) from None
    try:
        bridge = _opened(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TextUnavailable(_damaged(model)) from error
    origin = bridge.origin
    fits = words and space and (origin.words, origin.fingerprint) == (words.fingerprint, space.fingerprint)
    if origin.model != model or not fits:
        raise TextUnavailable(
            f"the text bridge of {model} was learnt from other vectors than those that search uses; "
            f"run `manage.py fit_text_bridge {model}` again"
        )
    return bridge


def fitted_bridge(words: EmbeddingSpace, space: EmbeddingSpace, model: str) -> Bridge | None:
    """Return the bridge as ``bridge_between`` does; None where there is none to use."""
    try:
        return bridge_between(words, space, model)
    except TextUnavailable:
        return None


def _damaged(model: str) -> str:
    return f"the text bridge {bridge_path(model)} is damaged; run `manage.py fit_text_bridge {model}` again"


@lru_cache(maxsize=8)
def _opened(path: Path, _stamp: tuple[int, ...]) -> Bridge:
    """Map a bridge's file. Raises ValueError, KeyError, TypeError, OSError when it is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError("no header of safetensors")
        header = json.loads(file.read(length))
    facts = header.pop("__metadata__")
    if (facts.pop("format"), facts.pop("version")) != (FORMAT, VERSION):
        raise ValueError("another kind of file, or of another version")
    weights, intercept = (_mapped(path, header[name], 8 + length) for name in ("weights", "intercept"))
    if weights.shape[1:] != intercept.shape:
        raise ValueError("weights and intercept do not fit")
    kinds = {"int": int, "float": float, "str": str}
    return Bridge(Origin(**{name: kinds[kind](facts[name]) for name, kind in _kinds().items()}), weights, intercept)


def _kinds() -> dict[str, Any]:
    return Origin.__annotations__


def _mapped(path: Path, tensor: dict[str, Any], start: int) -> NDArray[np.float32]:
    if tensor["dtype"] != "F32":
        raise ValueError("not float32")
    begin, end = tensor["data_offsets"]
    shape = tuple(tensor["shape"])
    if begin < 0 or end - begin != 4 * int(np.prod(shape)):
        raise ValueError("a tensor of another size than its shape says")
    # ValueError when the file ends before the tensor does.
    return np.asarray(np.memmap(path, "<f4", "r", offset=start + begin, shape=shape))
