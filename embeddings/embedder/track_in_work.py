"""A track on its way through the pipeline."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from embeddings.audio.summary import AudioSummary
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.row_spool import RowStore
from embeddings.embedder.work import Failure, TrackRequest, TrackVector, failure_of
from embeddings.encoders.base import Pooled, Segmenter
from embeddings.errors import NOT_LOADABLE

NO_TRACKS_FAULT = (*NOT_LOADABLE, OSError)
"""Errors that end a run: of a model as a whole, or no room on the disk, no process left."""


class TrackInWork:
    """A track between its first block and its outcome. A model's segmenter stands for work still to do."""

    def __init__(self, request: TrackRequest, manager: ModelManager, spool: Path) -> None:
        self.request = request
        self.audio: AudioSummary | None = None
        self.ended = False
        self.vectors: dict[str, TrackVector] = {}
        self.failures: dict[str, Failure] = {}
        self.outstanding = dict.fromkeys(request.models, 0)
        self.pooling: set[str] = set()
        self.seconds = dict.fromkeys(request.models, 0.0)
        self.segmenters: dict[str, Segmenter] = {m: manager.encoder(m).segmenter() for m in request.models}
        self.rows = {
            m: RowStore(spool, spool_name=request.spool_name and f"{request.spool_name}-{m}") for m in request.models
        }

    def fail(self, model: str, error: Exception) -> None:
        """Give up one model; the others go on."""
        if self.segmenters.pop(model, None):
            self.failures[model] = failure_of(error)
            self.rows[model].close()

    def take_complete(self) -> list[str]:
        """Return the models whose last row has come since the last call."""
        complete = [m for m in self.segmenters if self.ended and not self.outstanding[m] and m not in self.pooling]
        self.pooling.update(complete)
        return complete

    def pool(self, model: str) -> Pooled:
        """Make a model's rows into its vector; changes nothing here, so that another thread may."""
        return self.segmenters[model].pool(self.rows[model].rows())

    def finish(self, model: str, pooled: Future[Pooled], precision: str) -> None:
        """Take a model's vector, or why there is none."""
        try:
            vector, windows = pooled.result()
        except NO_TRACKS_FAULT:
            raise
        except Exception as error:
            self.fail(model, error)
            return
        self.vectors[model] = TrackVector(vector, windows, self.seconds[model], precision)
        self.rows[model].close()
        del self.segmenters[model]

    def close(self) -> None:
        for store in self.rows.values():
            store.close()
