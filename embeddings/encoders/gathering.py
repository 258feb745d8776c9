"""Batches on a device from views of waveforms: what several items share is sent there once."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Items of equal shape, float32 […samples]; several may be views of one waveform."""

MAX_BYTES_AHEAD = 2**30


class Gatherer:
    """Puts batches together on ``device``. Windows overlap: MERT's hear each second six times.

    A waveform stays on another device as long as somebody has it here. It must not change meanwhile.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.bytes_sent = 0
        self._there: dict[int, tuple[weakref.ref[NDArray[Any]], Any]] = {}
        self._copies = _stream(device) if device.startswith("cuda") else None

    def send(self, item: NDArray[np.float32]) -> None:
        """Begin to send what ``item`` is a view of; from any thread, so that its batch finds it there.

        Beyond ``MAX_BYTES_AHEAD`` batches send for themselves: many decoders shall not fill a small device.
        """
        whole = _whole(item)
        there = sum(tensor.nbytes for _, tensor in tuple(self._there.values()))
        if self.device != "cpu" and _is_plain(whole) and there < MAX_BYTES_AHEAD:
            with suppress(RuntimeError):  # no memory: its batch will meet that, too, where some can be made
                self._sent(whole)

    def batch(self, items: Items) -> Any:
        """Return a tensor [items, …samples] on the device. An item that nothing else shares is not copied on a CPU."""
        import torch

        views = self.views(items)
        if self._copies:
            torch.cuda.default_stream(self.device).wait_stream(self._copies)
        return views[0][None] if len(views) == 1 else torch.stack(views)

    def views(self, items: Items) -> list[Any]:
        """Return a tensor for each item: a view of its waveform on the device, where it may not have arrived yet."""
        return [self._view(item) for item in items]

    def _view(self, item: NDArray[np.float32]) -> Any:
        whole = _whole(item)
        if not _is_plain(whole) or item.dtype != np.float32:
            whole = item = np.ascontiguousarray(item, np.float32)
        offset = (item.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // item.itemsize
        strides = [stride // item.itemsize for stride in item.strides]
        return self._sent(whole).as_strided(item.shape, strides, offset)

    def _sent(self, whole: NDArray[np.float32]) -> Any:
        """Return the waveform on the device, flat; ``_copies`` may still be at it."""
        if self.device == "cpu":
            return _flat(whole)
        key = id(whole)
        if key not in self._there:
            there = self._send(_flat(whole))
            self.bytes_sent += whole.nbytes
            self._there[key] = weakref.ref(whole, lambda _: self._there.pop(key, None)), there
        return self._there[key][1]

    def _send(self, flat: Any) -> Any:
        import torch

        if not self._copies:
            return flat.to(self.device)
        with torch.cuda.stream(self._copies):  # beside the batch that is being computed
            there = flat.pin_memory().to(self.device, non_blocking=True)
        there.record_stream(torch.cuda.default_stream(self.device))  # which reads it, until when it is freed
        return there


@cache
def gatherer_on(device: str) -> Gatherer:
    """Return the one of all models, so that what several of them hear is sent once."""
    return Gatherer(device)


def _stream(device: str) -> Any:
    import torch

    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _whole(item: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what ``item`` is a view of."""
    return item.base if isinstance(item.base, np.ndarray) else item


def _is_plain(whole: NDArray[Any]) -> bool:
    return whole.flags.c_contiguous and whole.dtype == np.float32


def _flat(whole: NDArray[np.float32]) -> Any:
    import torch

    # PyTorch warns of arrays that cannot be written to, though nobody does.
    return torch.from_numpy(whole.reshape(-1) if whole.flags.writeable else whole.flatten())
