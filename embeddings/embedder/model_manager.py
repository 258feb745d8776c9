"""Loads models when they are needed, keeps them while they are used, unloads them after. No maths here.

One manager owns a device's memory; it lives in the embedder.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embeddings.embedder.device import empty_cache, is_out_of_memory
from embeddings.encoders.base import Encoder, Model, TextModel
from embeddings.encoders.gathering import Items
from embeddings.errors import DeviceOutOfMemory, concerning

logger = logging.getLogger(__name__)

QUICK_BATCH_SECONDS = 0.4  # below this a batch may grow
SLOW_BATCH_SECONDS = 2.0  # above this it shrinks: a cancel or an upload waits for the batch in hand
WORKING_MEMORY = 2.0  # activations beside the weights, as a multiple of the weights


@dataclass
class _Slot:
    """A model's state in this process."""

    model: Model
    batch: int
    largest_batch: int
    users: int = 0
    waiting: int = 0
    last_used: float = field(default_factory=time.monotonic)
    load_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def busy(self) -> bool:
        return bool(self.users or self.waiting)


@dataclass(frozen=True)
class ModelState:
    """What an operator sees of a model."""

    key: str
    loaded: bool
    device: str
    bytes: int
    idle_seconds: float
    load_seconds: float
    batch: int


class ModelManager:
    """Keeps at most ``memory_bytes`` of models on the device; forgets one after ``idle_seconds`` without use."""

    def __init__(
        self,
        models: Mapping[str, Model],
        *,
        memory_bytes: float,
        idle_seconds: float = 360,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = {
            key: _Slot(m, batch=1 if m.device == "cpu" else m.batch_size, largest_batch=m.batch_size, last_used=clock())
            for key, m in models.items()
        }
        self._memory_bytes = memory_bytes
        self._idle_seconds = idle_seconds
        self._clock = clock
        self.seconds_spent_loading = 0.0
        self._lock = threading.RLock()  # guards the table; a slot's own lock guards its load
        # Two threads that import PyTorch and its libraries at once may see each other's half-made modules.
        self._one_load = threading.Lock()

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._slots)

    @property
    def encoder_keys(self) -> frozenset[str]:
        """Those of the models that hear tracks."""
        return frozenset(key for key, slot in self._slots.items() if isinstance(slot.model, Encoder))

    def model(self, key: str) -> Model:
        """Return the model without loading it: its description needs no weights."""
        return self._slots[key].model

    def encoder(self, key: str) -> Encoder:
        """Return a model that hears tracks, without loading it. Raises KeyError when it does not."""
        model = self._slots[key].model
        if not isinstance(model, Encoder):
            raise KeyError(key)
        return model

    def text_model(self, key: str) -> TextModel:
        """Return a model that reads prompts, without loading it. Raises KeyError when it does not."""
        model = self._slots[key].model
        if not isinstance(model, TextModel):
            raise KeyError(key)
        return model

    @contextmanager
    def expect(self, keys: Sequence[str]) -> Iterator[None]:
        """Mark models as wanted by queued work, so that they are not unloaded as idle in between."""
        slots = [self._slots[key] for key in keys]
        with self._lock:
            for slot in slots:
                slot.waiting += 1
        try:
            yield
        finally:
            with self._lock:
                for slot in slots:
                    slot.waiting -= 1

    @contextmanager
    def use(self, key: str) -> Iterator[Model]:
        """Yield the loaded model; it stays loaded until the block ends.

        Raises WeightsMissing, WeightsUnusable; DeviceOutOfMemory when it does not fit beside what is in use.
        """
        slot = self._slots[key]
        with self._lock:
            slot.users += 1
        try:
            with slot.lock:
                if not slot.model.loaded:
                    with concerning(key):
                        self._load(slot)
            yield slot.model
        finally:
            with self._lock:
                slot.users -= 1
                slot.last_used = self._clock()

    def _load(self, slot: _Slot) -> None:
        self._make_room(slot)
        began = self._clock()
        if not self._try_to_load(slot):
            self._free_memory(slot)
            if not self._try_to_load(slot):
                raise DeviceOutOfMemory(f"{slot.model.key} does not fit in the memory of {slot.model.device}")
        slot.load_seconds = self._clock() - began
        if isinstance(slot.model, Encoder):  # a text's model is loaded beside a chunk, which loses no time by it
            self.seconds_spent_loading += slot.load_seconds
        logger.info("loaded %s on %s in %.1f s", slot.model.key, slot.model.device, slot.load_seconds)

    def _try_to_load(self, slot: _Slot) -> bool:
        """Load; False when memory ran out."""
        try:
            with self._one_load:
                slot.model.load()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
        return True

    def _make_room(self, wanted: _Slot) -> None:
        """Evict the models used least recently until ``wanted`` fits. One in use is never evicted."""
        needed = _needed_bytes(wanted.model)  # may hash gigabytes: nobody else should wait for it
        with self._lock:
            while needed + sum(_needed_bytes(slot.model) for slot in self._loaded()) > self._memory_bytes:
                idle = [slot for slot in self._loaded() if not slot.users]
                if not idle:
                    return  # what remains is in use; the device has the last word
                self._unload(min(idle, key=lambda slot: slot.last_used))

    def _loaded(self) -> list[_Slot]:
        return [slot for slot in self._slots.values() if slot.model.loaded]

    def groups(self, keys: Sequence[str]) -> list[list[str]]:
        """Split ``keys`` into groups whose models fit in memory together; one group when all do."""
        needed = {key: _needed_bytes(self._slots[key].model) for key in keys}
        groups: list[list[str]] = []
        for key in keys:
            if groups and sum(needed[k] for k in [*groups[-1], key]) <= self._memory_bytes:
                groups[-1].append(key)
            else:
                groups.append([key])
        return groups

    def batch_size(self, key: str) -> int:
        """Items that the next batch of this model should hold."""
        return self._slots[key].batch

    def encode(self, key: str, items: Items) -> NDArray[np.float32]:
        """Encode a batch; on out-of-memory halve it, down to one. Raises EncodeError.

        Raises DeviceOutOfMemory when not even one fits with nothing else in memory: it names the model, which is
        too big for the device.
        """
        slot = self._slots[key]
        with self.use(key):
            rows = self._try_to_encode(slot, items)
            if rows is not None:
                return rows
            self._free_memory(slot)
            if len(items) == 1:
                return self._encode_last(slot, items)
            slot.batch = slot.largest_batch = max(1, len(items) // 2)
            half = (len(items) + 1) // 2
            return np.concatenate([self.encode(key, part) for part in (items[:half], items[half:])])

    def _encode_last(self, slot: _Slot, item: Items) -> NDArray[np.float32]:
        rows = self._try_to_encode(slot, item)
        if rows is None:
            with concerning(slot.model.key):
                raise DeviceOutOfMemory(
                    f"{slot.model.key}: a batch of one does not fit in the memory of {slot.model.device}"
                )
        return rows

    def _try_to_encode(self, slot: _Slot, items: Items) -> NDArray[np.float32] | None:
        """Encode a batch; None when memory ran out."""
        encoder, began = self.encoder(slot.model.key), self._clock()
        try:
            rows = encoder.encode(items)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("%s: %d items do not fit in the memory of %s", encoder.key, len(items), encoder.device)
            return None
        self._adapt(slot, len(items), self._clock() - began)
        return rows

    def _adapt(self, slot: _Slot, size: int, seconds: float) -> None:
        """Steer batches towards a second: large enough to be quick, short enough to act on a cancel."""
        if seconds > SLOW_BATCH_SECONDS:
            slot.batch = max(1, size // 2)
        elif seconds < QUICK_BATCH_SECONDS and size >= slot.batch:
            slot.batch = min(slot.largest_batch, size * 2)

    def _free_memory(self, keep: _Slot) -> None:
        """Out of memory: unload everything that nobody uses, and give the cache back."""
        with self._lock:
            for slot in self._loaded():
                if slot is not keep and not slot.users:
                    self._unload(slot)
            empty_cache(keep.model.device)

    def unload(self, key: str) -> bool:
        """Unload on request; False while it is in use or was not loaded."""
        with self._lock:
            slot = self._slots[key]
            if slot.users or not slot.model.loaded:
                return False
            self._unload(slot)
            return True

    def unload_idle(self) -> list[str]:
        """Unload what nobody has used for ``idle_seconds``; returns the keys."""
        with self._lock:
            limit = self._clock() - self._idle_seconds
            idle = [slot for slot in self._loaded() if not slot.busy and slot.last_used <= limit]
            for slot in idle:
                self._unload(slot)
        return [slot.model.key for slot in idle]

    def _unload(self, slot: _Slot) -> None:
        slot.model.unload()
        empty_cache(slot.model.device)
        logger.info("unloaded %s", slot.model.key)

    def shutdown(self) -> None:
        """Unload everything that is not in use; the process is about to end."""
        with self._lock:
            for slot in self._loaded():
                if not slot.users:
                    self._unload(slot)

    def report(self) -> list[dict[str, Any]]:
        """What is loaded, where, how big, idle for how long."""
        with self._lock:
            return [asdict(self._state(slot)) for slot in self._slots.values()]

    def _state(self, slot: _Slot) -> ModelState:
        return ModelState(
            key=slot.model.key,
            loaded=slot.model.loaded,
            device=slot.model.device,
            bytes=slot.model.bytes_held,
            idle_seconds=0.0 if slot.busy else round(self._clock() - slot.last_used, 1),
            load_seconds=round(slot.load_seconds, 2),
            batch=slot.batch,
        )


def _needed_bytes(model: Model) -> float:
    """Bytes of the weights (measured once loaded, else as on disk) and of the work beside them."""
    with concerning(model.key):
        return (model.bytes_held or model.describe().weight_bytes) * (1 + WORKING_MEMORY)
