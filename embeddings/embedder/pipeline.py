"""Tracks in, vectors out: the only place where decoding, cutting, encoding and pooling meet.

Decoder threads cut blocks of audio into items and feed them into one queue. The caller's thread fills a bucket for
each model and item shape with the items of any tracks, and makes a batch whenever a bucket is full or no audio is
waiting. The device has a thread of its own, where a GPU finds the next batch when one ends; other threads pool what is
complete, so that it need not wait for sorting. Memory is bounded by the queue, the buckets, the batches and the number
of tracks to pool, not by the number or the length of the tracks.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.pool import AudioBlock, DecodePool
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.device import is_lost
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.row_spool import forget_spooled
from embeddings.embedder.stages import StageSeconds
from embeddings.embedder.track_in_work import NO_TRACKS_FAULT, TrackInWork
from embeddings.embedder.work import Step, TrackOutcome, TrackRequest
from embeddings.encoders.base import Item, Pooled
from embeddings.errors import DecoderDied, EmbedderDied

MAX_WAITING_PARTS = 2
POOL_THREADS = 2
MAX_WAITING_TO_BE_POOLED = 8
MAX_BUCKET_BYTES = 256 * 2**20
BATCHES_AHEAD = {"cpu": 0}
"""That wait while the device computes one; elsewhere 1. A CPU's cores do the work in between, too."""
_NO_TURN = nullcontext()


class _Call:
    """What the next call waits for. Calls are served in the order in which they come."""

    def __init__(self) -> None:
        self.decoders_left = threading.Event()
        """Each file has a decoder, so that those which come free are for the next call."""
        self.ended = threading.Event()

    def end(self) -> None:
        self.decoders_left.set()
        self.ended.set()


class _Entry(NamedTuple):
    track: TrackInWork
    item: Item


class _Part(NamedTuple):
    """What a decoder thread has next of a track: items with their models; the last one has its summary or an error."""

    track: TrackInWork
    items: Sequence[tuple[str, Item]]
    end: AudioSummary | Exception | None


class _Batch(NamedTuple):
    """What the device computes, or will next: rows [items, …] and the seconds that they took."""

    model: str
    entries: Sequence[_Entry]
    computed: Future[tuple[NDArray[np.float32], float]]


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
        self._finished_before: set[str] = set()
        self._last = _Call()
        self._last.end()
        self._calls_lock = threading.Lock()

    def embed(
        self,
        requests: Sequence[TrackRequest],
        *,
        should_stop: Callable[[], bool] = lambda: False,
        turn: AbstractContextManager[object] = _NO_TURN,
    ) -> Generator[TrackOutcome | Step]:
        """Embed all tracks; yields a Step per device batch and a TrackOutcome per track, in order of completion.

        ``turn`` is entered before anything but decoding begins: the first files are read as soon as the call
        before has a decoder for each of its own. Models that do not fit in memory together take turns, and a track
        has an outcome for each. Ends early, without the rest, once ``should_stop()``. Rows of finished tracks are
        kept until the call after the next: then the caller has stored what they led to.

        Raises WeightsMissing, WeightsUnusable and DeviceOutOfMemory, which name the model; OSError when the disk is
        full, EmbedderDied when the device is lost to this process; what concerns one track alone is a Failure in its
        outcome.
        """
        models = sorted({model for request in requests for model in request.models})
        with self._manager.expect(models), ExitStack() as ending:
            with self._calls_lock:
                before, call = self._last, _Call()
                self._last = call
            ending.callback(call.end)
            groups = self._manager.groups(models) or [[]]
            runs = [_Run(self, requests, group, should_stop) for group in groups]
            for run in runs:
                ending.callback(run.close)
            # While models take turns, the next call gets no decoder before all of them are done.
            runs[0].decode(before.decoders_left, call.decoders_left if len(runs) == 1 else threading.Event())
            before.ended.wait()
            with turn:
                self._forget_stored(requests)
                for group, run in zip(groups, runs, strict=True):
                    if should_stop():
                        return
                    for model in group:
                        with self._manager.use(model):
                            pass  # a model that cannot be loaded concerns the whole chunk, before any work is done
                    if run is not runs[0]:
                        run.decode(before.decoders_left, threading.Event())
                    yield from run.events()

    def _forget_stored(self, requests: Sequence[TrackRequest]) -> None:
        for spool_name in self._finished_before - {request.spool_name for request in requests}:
            forget_spooled(self._spool, spool_name)
        self._finished_before, self._finished = self._finished, set()


def _narrow(request: TrackRequest, models: Sequence[str]) -> TrackRequest:
    wanted = tuple(model for model in request.models if model in models)
    return replace(request, models=wanted)


class _Run:
    """One pass over some tracks with models that fit in memory together."""

    def __init__(
        self,
        pipeline: Pipeline,
        requests: Sequence[TrackRequest],
        models: Sequence[str],
        should_stop: Callable[[], bool],
    ) -> None:
        narrowed = [_narrow(request, models) for request in requests]
        wanted = [request for request in narrowed if request.models]
        self._manager = pipeline._manager
        self._pool = pipeline._pool
        self._spool = pipeline._spool
        self._device_lock = pipeline._device_lock
        self._stages = pipeline._stages
        self._pipeline = pipeline
        self._should_stop = should_stop
        self._requests = iter(wanted)
        self._requests_lock = threading.Lock()
        self._left = self._without_decoder = len(wanted)
        self._tracks: set[TrackInWork] = set()
        self._parts: queue.Queue[_Part | Exception] = queue.Queue(MAX_WAITING_PARTS)
        self._stop = threading.Event()
        self._buckets: dict[tuple[str, tuple[int, ...]], list[_Entry]] = defaultdict(list)
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._ahead = BATCHES_AHEAD.get(self._manager.encoder(models[0]).device, 1) if models else 0
        self._in_hand: deque[_Batch] = deque()
        self._poolers = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="pool")
        self._failed: list[TrackInWork] = []
        """Tracks of which nothing is left to be pooled."""
        self._pooling: deque[tuple[TrackInWork, str, Future[Pooled]]] = deque()
        self._threads: list[threading.Thread] = []

    def decode(self, may_begin: threading.Event, decoders_left: threading.Event) -> None:
        """Have the files read once ``may_begin`` is set; sets ``decoders_left`` when each of them has a decoder."""
        self._may_decode, self._decoders_left = may_begin, decoders_left
        for number in range(min(self._pool.processes, self._left)):
            thread = threading.Thread(target=self._decode_tracks, name=f"decode-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def events(self) -> Iterator[TrackOutcome | Step]:
        try:
            while self._is_work_left() and not self._should_stop():
                yield from self._take_pooled()
                if self._is_batch_due():
                    self._start_batch()
                    if len(self._in_hand) > self._ahead:
                        yield from self._finish_batch()
                elif self._in_hand and (not self._left or self._parts.empty()):
                    yield from self._finish_batch()
                elif self._left:
                    self._take_part()
        finally:
            self.close()

    def close(self) -> None:
        self._stop.set()
        self._device.shutdown(cancel_futures=True)
        self._poolers.shutdown(cancel_futures=True)
        for thread in self._threads:
            thread.join()
        while self._tracks:
            self._tracks.pop().close()

    # Decoder threads

    def _decode_tracks(self) -> None:
        # Not before: decoders that wait for the device with a file in hand would be missing to the call before.
        while not self._may_decode.wait(0.2) and not self._stop.is_set():
            pass
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
        track = TrackInWork(request, self._manager, self._spool)
        self._tracks.add(track)
        formats = list({self._manager.encoder(model).audio for model in request.models})
        with ExitStack() as once:
            once.callback(self._count_decoder)
            try:
                with closing(self._pool.decode(request.path, formats, sound=request.sound)) as parts:
                    for part in self._stages.waited("decode", parts):
                        once.close()
                        end = part if isinstance(part, AudioSummary) else None
                        if not self._put(_Part(track, list(self._cut(track, part)), end)):
                            return
            except (OSError, MemoryError):
                raise
            except Exception as error:
                self._put(_Part(track, (), error))

    def _count_decoder(self) -> None:
        with self._requests_lock:
            self._without_decoder -= 1
        if not self._without_decoder:
            self._decoders_left.set()

    def _cut(self, track: TrackInWork, part: AudioBlock | AudioSummary) -> Iterator[tuple[str, Item]]:
        """Yield the items that are complete with this part, and begin to send them to the device."""
        for model, segmenter in tuple(track.segmenters.items()):  # the other thread may give one up
            encoder = self._manager.encoder(model)
            if isinstance(part, AudioBlock):
                items = segmenter.push(part.waveforms[encoder.audio])
            else:
                items = segmenter.finish()
            for item in items:
                if item.index not in track.rows[model]:
                    encoder.gatherer.send(item.samples)
                    yield model, item

    def _put(self, part: _Part | Exception) -> bool:
        """Hand over to the caller's thread; False when nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._parts.put(part, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    # The caller's thread

    def _is_work_left(self) -> bool:
        return bool(self._left or self._buckets or self._in_hand or self._pooling or self._failed)

    def _is_batch_due(self) -> bool:
        """Whether a bucket is full, much is waiting, or no audio is and the device has nothing to do."""
        if not self._buckets:
            return False
        if not self._left or (self._parts.empty() and not self._in_hand):
            return True
        full = any(len(entries) >= self._manager.batch_size(key[0]) for key, entries in self._buckets.items())
        waiting = sum(len(entries) * entries[0].item.samples.nbytes for entries in self._buckets.values())
        return full or waiting > MAX_BUCKET_BYTES

    def _take_part(self) -> None:
        try:
            got = self._parts.get(timeout=0.2)
        except queue.Empty:
            return
        if isinstance(got, Exception):
            raise got
        track, items, end = got
        for model, item in items:
            if model in track.segmenters:
                track.outstanding[model] += 1
                self._buckets[model, item.samples.shape].append(_Entry(track, item))
        if end is None:
            return
        self._left -= 1
        track.ended = True
        if isinstance(end, AudioSummary):
            track.audio = end
        else:
            for model in list(track.segmenters):
                track.fail(model, end)
            if track.request.spool_name and not isinstance(end, DecoderDied):
                # What the storage gave may have been wrong long before it was noticed.
                forget_spooled(self._spool, track.request.spool_name)
            self._drop_abandoned_items()
        self._pool_complete(track)

    def _drop_abandoned_items(self) -> None:
        """Forget items whose track has failed: their vectors would be thrown away."""
        for key, entries in list(self._buckets.items()):
            self._buckets[key] = [entry for entry in entries if key[0] in entry.track.segmenters]
            if not self._buckets[key]:
                del self._buckets[key]

    def _start_batch(self) -> None:
        """Hand the fullest bucket's first items to the device."""
        key = max(self._buckets, key=lambda k: len(self._buckets[k]) / self._manager.batch_size(k[0]))
        model, size = key[0], self._manager.batch_size(key[0])
        batch, rest = self._buckets[key][:size], self._buckets[key][size:]
        if rest:
            self._buckets[key] = rest
        else:
            del self._buckets[key]
        self._in_hand.append(self._submit(model, batch))

    def _submit(self, model: str, entries: Sequence[_Entry]) -> _Batch:
        return _Batch(model, entries, self._device.submit(self._encode, model, entries))

    def _encode(self, model: str, entries: Sequence[_Entry]) -> tuple[NDArray[np.float32], float]:
        """What the device's thread does; changes nothing here."""
        began = time.monotonic()
        try:
            with self._device_lock():
                rows = self._manager.encode(model, [entry.item.samples for entry in entries])
        finally:
            seconds = time.monotonic() - began
            self._stages.add(seconds, "encode", model)
        return rows, seconds

    def _finish_batch(self) -> Iterator[TrackOutcome | Step]:
        """Wait for the oldest batch in hand and give its rows to their tracks."""
        batch = self._in_hand.popleft()
        seconds = self._take_rows(batch)
        for entry in batch.entries:
            entry.track.outstanding[batch.model] -= 1
            entry.track.seconds[batch.model] += seconds / len(batch.entries)
        yield Step(batch.model, batch.entries[-1].track.request.id, len(batch.entries), seconds)
        for track in {id(entry.track): entry.track for entry in batch.entries}.values():
            self._pool_complete(track)

    def _take_rows(self, batch: _Batch) -> float:
        """Give a batch's rows to their tracks; returns the seconds that they took."""
        model, entries, computed = batch
        try:
            rows, seconds = computed.result()
        except NO_TRACKS_FAULT:
            raise
        except Exception as error:
            if is_lost(error):
                raise EmbedderDied(f"the device failed: {error}") from error
            if len(entries) > 1:  # find the track whose item it is
                return sum(self._take_rows(self._submit(model, [entry])) for entry in entries)
            entries[0].track.fail(model, error)
            self._drop_abandoned_items()
            return 0.0
        for entry, row in zip(entries, rows, strict=True):
            if model in entry.track.segmenters:
                entry.track.rows[model].put(entry.item.index, row)
        return seconds

    # Pooling

    def _pool_complete(self, track: TrackInWork) -> None:
        """Have the track's models pooled whose last row has come."""
        for model in track.take_complete():
            self._pooling.append((track, model, self._poolers.submit(self._pooled, track, model)))
        if not track.segmenters:
            self._failed.append(track)

    def _pooled(self, track: TrackInWork, model: str) -> Pooled:
        with self._stages.timed("pool"):
            return track.pool(model)

    def _take_pooled(self) -> Iterator[TrackOutcome]:
        """Yield the outcome of each track that has a vector or a failure for all its models.

        Waits where nothing else is to be done, and where too many tracks would be kept.
        """
        while self._failed:
            yield from self._settle(self._failed.pop())
        idle = not self._left and not self._buckets and not self._in_hand
        while self._pooling and (idle or self._pooling[0][2].done() or len(self._pooling) > MAX_WAITING_TO_BE_POOLED):
            track, model, pooled = self._pooling.popleft()
            track.finish(model, pooled, self._manager.encoder(model).precision)
            yield from self._settle(track)

    def _settle(self, track: TrackInWork) -> Iterator[TrackOutcome]:
        if track.ended and not track.segmenters and track in self._tracks:
            self._tracks.remove(track)
            if track.request.spool_name and all(failure.permanent for failure in track.failures.values()):
                self._pipeline._finished.add(track.request.spool_name)
            yield TrackOutcome(track.request.id, track.vectors, track.failures, track.audio)
