"""Answers text queries beside a job: one prompt at a time; callers that cannot wait are told so."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embeddings.embedder.device import is_lost
from embeddings.embedder.model_manager import ModelManager
from embeddings.encoders.base import Description, TextModel
from embeddings.encoders.registry import TEXT_MODEL
from embeddings.errors import EmbedderDied, EmbedderUnavailable, FingerprintChanged, TextNotReady, WeightsUnusable
from navembed_site.errors import NavembedError

LATELY_SECONDS = 3_600


class Texts:
    """The text model of one device. On a GPU it takes ``device_lock``, which goes before a job's next batch.

    On a CPU it runs beside the batch, which may take many seconds; the cores are shared by the system anyway. That
    is safe, because inference only reads a network, and torch keeps its modes per thread. The tokenizer does change
    while it works, so all prompts share one thread; there, too, loading goes on when its caller has been told to
    ask again. The time of the file ``used`` is that of the last text: after a restart the model is loaded at once when
    that was lately.
    """

    def __init__(
        self,
        manager: ModelManager,
        device_lock: Callable[[], AbstractContextManager[object]],
        used: Path | None = None,
    ) -> None:
        self._manager = manager
        self._device_lock = device_lock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="text")
        self._used = used
        if used and _take(used):
            self._thread.submit(self._load)

    def embed(self, prompt: str, weights: Sequence[str] | None, wait_seconds: float) -> NDArray[np.float32]:
        """Embed a prompt; returns a unit vector, float32 [512].

        ``weights``, where given, are the SHA-256 of those that the caller's space was made with; raises
        FingerprintChanged when the text model has others. Raises TextNotReady after ``wait_seconds``; WeightsMissing,
        WeightsUnusable; DeviceOutOfMemory; EmbedderDied when the device is lost to this process.
        """
        try:
            answer = self._thread.submit(self._embed, prompt, weights)
        except RuntimeError as error:
            raise EmbedderUnavailable("the embedder is shutting down") from error
        try:
            return answer.result(wait_seconds)
        except FutureTimeoutError as error:
            loaded = self._manager.model(TEXT_MODEL.key).loaded
            if answer.cancel() and not loaded:  # it had not begun, and nobody wants it any more
                self._thread.submit(self._load)
            reason = "the device is busy" if loaded else "it is being loaded, ask again in a moment"
            raise TextNotReady(f"the text model did not answer within {wait_seconds:.3g} s: {reason}") from error

    def _load(self) -> None:
        with self._manager.use(TEXT_MODEL.key):
            pass

    def problem(self) -> str:
        """Why no text can be embedded, as a sentence; empty when the files are there."""
        try:
            self._manager.text_model(TEXT_MODEL.key).require_files()
        except NavembedError as error:
            return str(error)
        return ""

    def _embed(self, prompt: str, weights: Sequence[str] | None) -> NDArray[np.float32]:
        model = self._manager.text_model(TEXT_MODEL.key)
        found = model.describe()
        _require(found, weights)
        if model.loaded_as and model.loaded_as.fingerprint != found.fingerprint:
            self._manager.unload(model.key)  # its files have been replaced
        with self._manager.use(model.key):
            _require(model.loaded_as or found, weights)
            with nullcontext() if model.device == "cpu" else self._device_lock():
                vector = _embedded(model, prompt)
        if not np.isfinite(vector).all():
            raise WeightsUnusable(f"the text model of {found.source} makes no numbers of a text: is it damaged?")
        if self._used:
            with suppress(OSError):
                self._used.parent.mkdir(parents=True, exist_ok=True)
                self._used.touch()
        return vector

    def close(self) -> None:
        """Take no more prompts; the one under way may end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _take(used: Path) -> bool:
    """Delete the file; True when its time was lately. It is gone before loading, which might end this process again."""
    with suppress(OSError):
        lately = abs(time.time() - used.stat().st_mtime) < LATELY_SECONDS
        used.unlink()
        return lately
    return False


def _embedded(model: TextModel, prompt: str) -> NDArray[np.float32]:
    try:
        return model.embed(prompt)
    except RuntimeError as error:
        if is_lost(error):
            raise EmbedderDied(f"the device failed: {error}") from error
        raise


def _require(found: Description, weights: Sequence[str] | None) -> None:
    if weights is not None and found.fingerprint["weights"] != list(weights):
        raise FingerprintChanged("the text model belongs to other weights than the vectors that search uses")
