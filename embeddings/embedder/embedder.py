"""A device with its models, decoders and batches."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.embedder.available_weights import problem_with
from embeddings.embedder.device import name_of
from embeddings.embedder.host_memory import give_freed_memory_back
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.pipeline import Pipeline
from embeddings.embedder.priority_lock import PriorityLock
from embeddings.embedder.row_spool import forget_old_rows
from embeddings.embedder.stages import StageSeconds
from embeddings.embedder.texts import Texts
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.encoders.base import Description
from embeddings.errors import EmbedderUnavailable, FingerprintChanged, concerning
from embeddings.spaces.lifecycle import fingerprint_of

IDLE_CHECK_SECONDS = 5
CLOSE_SECONDS = 3  # a batch may take longer; then the process ends under it
KEEP_ROWS_SECONDS = 7 * 86_400
MOST_HEARD_HOURS = 1.0  # of a file that somebody waits for


class RequestQueue:
    """Requests of one rank, served one after the other."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.lock = threading.Lock()
        self._pipeline = pipeline
        self._progress = time.monotonic()

    def embed(
        self, requests: list[TrackRequest], should_stop: Callable[[], bool], begin: Callable[[], None]
    ) -> Generator[TrackOutcome | Step]:
        """Embed tracks until ``should_stop()``; ``begin`` is called when those that were asked for before are done."""
        with closing(self._pipeline.embed(requests, should_stop=should_stop, turn=self._turn(begin))) as events:
            for event in events:
                self._progress = time.monotonic()
                yield event

    @contextmanager
    def _turn(self, begin: Callable[[], None]) -> Iterator[None]:
        with self.lock:
            self._progress = time.monotonic()
            begin()
            yield

    @property
    def idle_seconds(self) -> float:
        """Since the last progress of the request that is worked on."""
        return time.monotonic() - self._progress


class Embedder:
    """A device with its models and decoders. Interactive requests go between the batches of a job's chunk."""

    def __init__(self, manager: ModelManager, pool: DecodePool, spool: Path) -> None:
        self.manager = manager
        self.stages = StageSeconds()
        lock = PriorityLock()
        # Not the job's decoders: on a slow device they may wait for minutes with a track in hand.
        self._pools = (pool, DecodePool(1, limits=interactive(pool.limits)))
        self.jobs = RequestQueue(
            Pipeline(manager, self._pools[0], spool / "jobs", device_lock=lock.job, stages=self.stages)
        )
        self.interactive = RequestQueue(
            Pipeline(manager, self._pools[1], spool / "interactive", device_lock=lock.interactive, stages=self.stages)
        )
        # Embedders of other devices share the folder.
        self.texts = Texts(manager, lock.interactive, spool / f"text-used-{self._device}")
        self._closing = threading.Event()
        forget_old_rows(spool / "jobs", older_than=time.time() - KEEP_ROWS_SECONDS)
        threading.Thread(target=self._unload_idle, name="idle", daemon=True).start()

    @property
    def closing(self) -> bool:
        return self._closing.is_set()

    @property
    def _device(self) -> str:
        return next(self.manager.encoder(key).device for key in self.manager.encoder_keys)

    @property
    def decoders(self) -> DecodePool:
        """Those of jobs."""
        return self._pools[0]

    def status(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "device": name_of(self._device),
            "models": self.manager.report(),
            "busy": self.jobs.lock.locked(),
            "stage_seconds": self.stages.report(),
            "seconds_spent_loading": self.manager.seconds_spent_loading,
            "text_problem": self.texts.problem(),
            "problems": {key: problem_with(self.manager.encoder(key)) for key in self.manager.encoder_keys},
        }

    def require(self, fingerprints: Mapping[str, str]) -> None:
        """Raise FingerprintChanged unless the weights that lie there now make vectors of these fingerprints."""
        for key, expected in fingerprints.items():
            encoder = self.manager.encoder(key)
            with concerning(key):
                _require(key, encoder.describe(), expected)
            loaded = encoder.loaded and encoder.loaded_as
            if loaded and fingerprint_of(loaded) != expected and not self.manager.unload(key):
                raise EmbedderUnavailable(f"{key} is in use with weights that have been replaced")

    def require_loaded(self, keys: Iterable[str], fingerprints: Mapping[str, str]) -> None:
        """Raise FingerprintChanged unless the weights that these models were loaded with are of the fingerprints."""
        for key in keys:
            loaded = self.manager.encoder(key).loaded_as
            if loaded and key in fingerprints:
                _require(key, loaded, fingerprints[key])

    def close(self) -> None:
        """Waits for short batches under way, tells their callers, and releases everything."""
        self._closing.set()
        self.texts.close()
        ended = [queue for queue in (self.jobs, self.interactive) if queue.lock.acquire(timeout=CLOSE_SECONDS)]
        for pool in self._pools:
            pool.close()
        self.manager.shutdown()
        for queue in ended:
            queue.lock.release()  # those that wait are told, too

    def _unload_idle(self) -> None:
        while not self._closing.wait(IDLE_CHECK_SECONDS):
            self.manager.unload_idle()
            if not self.jobs.lock.locked() and not self.interactive.lock.locked():
                give_freed_memory_back()


def _require(model: str, found: Description, expected: str) -> None:
    if fingerprint_of(found) != expected:
        raise FingerprintChanged(
            f"the weights or the recipe of {model} have changed since this job was planned; start a new one"
        )


def interactive(limits: Limits) -> Limits:
    """Return those of a file that somebody waits for."""
    if limits.max_hours <= MOST_HEARD_HOURS:
        return limits
    return replace(limits, max_hours=MOST_HEARD_HOURS, set_by="of a file to search by")
