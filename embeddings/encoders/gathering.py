"""Batches on a device from views of waveforms: what several items share is sent there once."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Items = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Items of equal shape, float32 […samples]; several may be views of one waveform."""


class Gatherer:
    """Puts batches together on ``device``. Windows overlap: MERT's hear each second six times.

    A waveform stays on another device as long as somebody has it here. It must not change meanwhile.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.bytes_sent = 0
        self._there: dict[int, tuple[weakref.ref[NDArray[Any]], Any]] = {}

    def batch(self, items: Items) -> Any:
        """Return a tensor [items, …samples] on the device. An item that nothing else shares is not copied on a CPU."""
        import torch

        views = [self._view(item) for item in items]
        return views[0][None] if len(views) == 1 else torch.stack(views)

    def _view(self, item: NDArray[np.float32]) -> Any:
        whole = item.base if isinstance(item.base, np.ndarray) else item
        if not (whole.flags.c_contiguous and whole.dtype == item.dtype == np.float32):
            whole = item = np.ascontiguousarray(item, np.float32)
        offset = (item.__array_interface__["data"][0] - whole.__array_interface__["data"][0]) // item.itemsize
        strides = [stride // item.itemsize for stride in item.strides]
        return self._sent(whole).as_strided(item.shape, strides, offset)

    def _sent(self, whole: NDArray[np.float32]) -> Any:
        """Return the waveform on the device, flat."""
        if self.device == "cpu":
            return _flat(whole)
        key = id(whole)
        if key not in self._there:
            flat = _flat(whole)
            pinned = flat.pin_memory() if self.device.startswith("cuda") else flat
            there = pinned.to(self.device, non_blocking=True)
            self.bytes_sent += whole.nbytes
            self._there[key] = weakref.ref(whole, lambda _: self._there.pop(key, None)), there
        return self._there[key][1]


def _flat(whole: NDArray[np.float32]) -> Any:
    import torch

    # PyTorch warns of arrays that cannot be written to, though nobody does.
    return torch.from_numpy(whole.reshape(-1) if whole.flags.writeable else whole.flatten())
