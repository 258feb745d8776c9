"""Tracks in, vectors out: the only place where decoding, cutting, encoding and pooling meet.

Decoder threads feed blocks of audio into one queue. The caller's thread cuts them into items, fills a bucket for
each model and item shape with the items of any tracks, and runs the device whenever a bucket is full or no audio
is waiting. Other threads pool what is complete, so that the device need not wait for sorting. Memory is bounded by the
queue, the buckets and the number of tracks to pool, not by the number or the length of the tracks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from embeddings.audio.pool import AudioBlock, DecodePool
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.device import is_lost
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.row_spool import RowStore, forget_spooled
from embeddings.embedder.stages import StageSeconds
from embeddings.embedder.work import Failure, Step, TrackOutcome, TrackRequest, TrackVector, failure_of
from embeddings.encoders.base import Item, Pooled, Segmenter
from embeddings.errors import NOT_LOADABLE, DecoderDied, EmbedderDied

MAX_WAITING_BLOCKS = 2
POOL_THREADS = 2
MAX_WAITING_TO_BE_POOLED = 8
MAX_BUCKET_BYTES = 256 * 2**20
NO_TRACKS_FAULT = (*NOT_LOADABLE, OSError)
"""Errors that end a run: of a model as a whole, or no room on the disk, no process left."""


class _Entry(NamedTuple):
    track: _TrackInWork
    item: Item


class _TrackInWork:
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

    def finish(self, model: str, pooled: Future[Pooled]) -> None:
        """Take a model's vector, or why there is none."""
        try:
            vector, windows = pooled.result()
        except NO_TRACKS_FAULT:
            raise
        except Exception as error:
            self.fail(model, error)
            return
        self.vectors[model] = TrackVector(vector, windows, self.seconds[model])
        self.rows[model].close()
        del self.segmenters[model]

    def close(self) -> None:
        for store in self.rows.values():
            store.close()


class _Part(NamedTuple):
    """What a decoder thread found next of a track; its summary or an error is the last."""

    track: _TrackInWork
    content: AudioBlock | AudioSummary | Exception


class Pipeline:
    """The stages of one device. ``device_lock`` is entered around each device batch, so that others get between."""

    def __init__(
        self,
        manager: ModelManager,
        pool: DecodePool,
        spool: Path,
        *,
        device_lock: Callable[[], AbstractContextManager[object]] = nullcontext,
        stages: StageSeconds | None = None,
    ) -> None:
        self._manager = manager
        self._pool = pool
        self._spool = spool
        self._device_lock = device_lock
        self._stages = stages or StageSeconds()
        self._finished: set[str] = set()

    def embed(
        self, requests: Sequence[TrackRequest], *, should_stop: Callable[[], bool] = lambda: False
    ) -> Generator[TrackOutcome | Step]:
        """Embed all tracks; yields a Step per device batch and a TrackOutcome per track, in order of completion.

        Models that do not fit in memory together take turns, and a track has an outcome for each turn.
        Ends early, without the rest, once ``should_stop()``. Rows of finished tracks are kept until the next
        call, when the caller has stored what they led to.

        Raises WeightsMissing, WeightsUnusable and DeviceOutOfMemory, which name the model; OSError when the disk is
        full, EmbedderDied when the device is lost to this process; what concerns one track alone is a Failure in its
        outcome.
        """
        for spool_name in self._finished - {request.spool_name for request in requests}:
            forget_spooled(self._spool, spool_name)
        self._finished.clear()
        models = sorted({model for request in requests for model in request.models})
        with self._manager.expect(models):
            for group in self._manager.groups(models):
                if should_stop():
                    return
                for model in group:
                    with self._manager.use(model):
                        pass  # a model that cannot be loaded concerns the whole chunk, before any work is done
                narrowed = [_narrow(request, group) for request in requests]
                run = _Run(self, [request for request in narrowed if request.models], should_stop)
                yield from run.events()


def _narrow(request: TrackRequest, models: Sequence[str]) -> TrackRequest:
    wanted = tuple(model for model in request.models if model in models)
    return replace(request, models=wanted)


class _Run:
    """One pass over some tracks with models that fit in memory together."""

    def __init__(self, pipeline: Pipeline, requests: Sequence[TrackRequest], should_stop: Callable[[], bool]) -> None:
        self._manager = pipeline._manager
        self._pool = pipeline._pool
        self._spool = pipeline._spool
        self._device_lock = pipeline._device_lock
        self._stages = pipeline._stages
        self._finished = pipeline._finished
        self._should_stop = should_stop
        self._requests = iter(requests)
        self._requests_lock = threading.Lock()
        self._left = len(requests)
        self._tracks: set[_TrackInWork] = set()
        self._blocks: queue.Queue[_Part | Exception] = queue.Queue(MAX_WAITING_BLOCKS)
        self._stop = threading.Event()
        self._buckets: dict[tuple[str, tuple[int, ...]], list[_Entry]] = defaultdict(list)
        self._poolers = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="pool")
        self._failed: list[_TrackInWork] = []
        """Tracks of which nothing is left to be pooled."""
        self._pooling: deque[tuple[_TrackInWork, str, Future[Pooled]]] = deque()

    def events(self) -> Iterator[TrackOutcome | Step]:
        threads = [
            threading.Thread(target=self._decode_tracks, name=f"decode-{n}", daemon=True)
            for n in range(min(self._pool.processes, self._left))
        ]
        for thread in threads:
            thread.start()
        try:
            while (self._left or self._buckets or self._pooling or self._failed) and not self._should_stop():
                yield from self._take_pooled()
                if self._run_if_due():
                    yield from self._run_batch()
                elif self._left:
                    self._take_block()
        finally:
            self._stop.set()
            self._poolers.shutdown(cancel_futures=True)
            for thread in threads:
                thread.join()
            for track in self._tracks:
                track.close()

    # Decoder threads

    def _decode_tracks(self) -> None:
        while not self._stop.is_set():
            with self._requests_lock:
                request = next(self._requests, None)
            if request is None:
                return
            try:
                self._decode(request)
            except Exception as error:  # no track's fault: it ends the run, which would wait for the thread for ever
                self._put(error)

    def _decode(self, request: TrackRequest) -> None:
        track = _TrackInWork(request, self._manager, self._spool)
        self._tracks.add(track)
        formats = list({self._manager.encoder(model).audio for model in request.models})
        try:
            with closing(self._pool.decode(request.path, formats, sound=request.sound)) as parts:
                for part in self._stages.waited("decode", parts):
                    if not self._put(_Part(track, part)):
                        return
        except OSError:
            raise
        except Exception as error:
            self._put(_Part(track, error))

    def _put(self, part: _Part | Exception) -> bool:
        """Hand over to the caller's thread; False when nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._blocks.put(part, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    # The caller's thread

    def _run_if_due(self) -> bool:
        """Whether a batch should run now: a bucket is full, much is waiting, or no audio is."""
        if not self._buckets:
            return False
        if not self._left or self._blocks.empty():
            return True
        full = any(len(entries) >= self._manager.batch_size(key[0]) for key, entries in self._buckets.items())
        waiting = sum(len(entries) * entries[0].item.samples.nbytes for entries in self._buckets.values())
        return full or waiting > MAX_BUCKET_BYTES

    def _take_block(self) -> None:
        try:
            got = self._blocks.get(timeout=0.2)
        except queue.Empty:
            return
        if isinstance(got, Exception):
            raise got
        track, part = got
        if isinstance(part, AudioBlock):
            for model, segmenter in track.segmenters.items():
                audio = self._manager.encoder(model).audio
                self._collect(track, model, segmenter.push(part.waveforms[audio]))
            return
        self._left -= 1
        track.ended = True
        if isinstance(part, AudioSummary):
            track.audio = part
            for model, segmenter in track.segmenters.items():
                self._collect(track, model, segmenter.finish())
        else:
            for model in list(track.segmenters):
                track.fail(model, part)
            if track.request.spool_name and not isinstance(part, DecoderDied):
                # What the storage gave may have been wrong long before it was noticed.
                forget_spooled(self._spool, track.request.spool_name)
            self._drop_abandoned_items()
        self._pool_complete(track)

    def _collect(self, track: _TrackInWork, model: str, items: Iterable[Item]) -> None:
        for item in items:
            if item.index not in track.rows[model]:
                track.outstanding[model] += 1
                self._buckets[model, item.samples.shape].append(_Entry(track, item))

    def _drop_abandoned_items(self) -> None:
        """Forget items whose track has failed: their vectors would be thrown away."""
        for key, entries in list(self._buckets.items()):
            self._buckets[key] = [entry for entry in entries if key[0] in entry.track.segmenters]
            if not self._buckets[key]:
                del self._buckets[key]

    def _run_batch(self) -> Iterator[TrackOutcome | Step]:
        """Run the fullest bucket's first items on the device and give the rows to their tracks."""
        key = max(self._buckets, key=lambda k: len(self._buckets[k]) / self._manager.batch_size(k[0]))
        model, size = key[0], self._manager.batch_size(key[0])
        batch, rest = self._buckets[key][:size], self._buckets[key][size:]
        if rest:
            self._buckets[key] = rest
        else:
            del self._buckets[key]
        began = time.monotonic()
        self._encode(model, batch)
        seconds = time.monotonic() - began
        self._stages.add(seconds, "encode", model)
        for entry in batch:
            entry.track.outstanding[model] -= 1
            entry.track.seconds[model] += seconds / len(batch)
        yield Step(model, batch[-1].track.request.id, len(batch), seconds)
        for track in {id(entry.track): entry.track for entry in batch}.values():
            self._pool_complete(track)

    def _encode(self, model: str, batch: Sequence[_Entry]) -> None:
        try:
            with self._device_lock():
                rows = self._manager.encode(model, [entry.item.samples for entry in batch])
        except NO_TRACKS_FAULT:
            raise
        except Exception as error:
            if is_lost(error):
                raise EmbedderDied(f"the device failed: {error}") from error
            if len(batch) > 1:  # find the track whose item it is
                for entry in batch:
                    self._encode(model, [entry])
            else:
                batch[0].track.fail(model, error)
                self._drop_abandoned_items()
            return
        for entry, row in zip(batch, rows, strict=True):
            if model in entry.track.segmenters:
                entry.track.rows[model].put(entry.item.index, row)

    # Pooling

    def _pool_complete(self, track: _TrackInWork) -> None:
        """Have the track's models pooled whose last row has come."""
        for model in track.take_complete():
            self._pooling.append((track, model, self._poolers.submit(self._pooled, track, model)))
        if not track.segmenters:
            self._failed.append(track)

    def _pooled(self, track: _TrackInWork, model: str) -> Pooled:
        with self._stages.timed("pool"):
            return track.pool(model)

    def _take_pooled(self) -> Iterator[TrackOutcome]:
        """Yield the outcome of each track that has a vector or a failure for all its models.

        Waits where nothing else is to be done, and where too many tracks would be kept.
        """
        while self._failed:
            yield from self._settle(self._failed.pop())
        idle = not self._left and not self._buckets
        while self._pooling and (idle or self._pooling[0][2].done() or len(self._pooling) > MAX_WAITING_TO_BE_POOLED):
            track, model, pooled = self._pooling.popleft()
            track.finish(model, pooled)
            yield from self._settle(track)

    def _settle(self, track: _TrackInWork) -> Iterator[TrackOutcome]:
        if track.ended and not track.segmenters and track in self._tracks:
            self._tracks.remove(track)
            if track.request.spool_name and all(failure.permanent for failure in track.failures.values()):
                self._finished.add(track.request.spool_name)
            yield TrackOutcome(track.request.id, track.vectors, track.failures, track.audio)
