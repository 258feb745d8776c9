"""Cutting a waveform into overlapping windows: over a whole length, and as blocks of it arrive."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
"""float32 [channels, samples]."""


def window_starts(total: int, length: int, hop: int) -> list[int]:
    """Return where windows of ``length`` start in ``total`` samples: 0, hop, 2·hop … and one that ends with the track.

    Every start is such that start + length ≤ total; a track shorter than ``length`` is one window of its own
    length. Raises ValueError unless all three are positive.
    """
    if min(total, length, hop) < 1:
        raise ValueError(f"total, length and hop must be positive, not {total}, {length} and {hop}")
    if total <= length:
        return [0]
    starts = list(range(0, total - length + 1, hop))
    if starts[-1] + length < total:
        starts.append(total - length)
    return starts


class Backlog:
    """The samples that may still be needed of a stream: float32 [channels, …], addressed from the track's start."""

    def __init__(self, channels: int) -> None:
        self._pieces: list[Samples] = [np.empty((channels, 0), np.float32)]
        self._begin = self._needed = 0
        self.end = 0
        """Samples seen so far."""

    def append(self, block: Samples) -> None:
        """Add the next block, which must not change any more. Raises ValueError when it has other channels."""
        if block.ndim != 2 or len(block) != len(self._pieces[0]):
            raise ValueError(f"expected [{len(self._pieces[0])}, samples], not {list(block.shape)}")
        self._pieces.append(np.asarray(block, np.float32))
        self.end += block.shape[1]

    def view(self, start: int, length: int) -> Samples:
        """Return samples [start, start + length) as a view, which stays as it is."""
        if len(self._pieces) > 1:
            self._join()
        return self._pieces[0][:, start - self._begin : start - self._begin + length]

    def _join(self) -> None:
        """Make one piece of what is needed; a block that follows nothing is not copied."""
        first, *others = self._pieces
        rest = first[:, self._needed - self._begin :]
        whole = others if rest.shape[1] == 0 else [rest, *others]
        self._pieces = [whole[0] if len(whole) == 1 else np.concatenate(whole, axis=1)]
        self._begin = self.end - self._pieces[0].shape[1]

    def forget(self, before: int) -> None:
        """Allow what lies before sample ``before`` to be freed; it is when the next block comes."""
        self._needed = before


class WindowStream:
    """Yields the windows of ``window_starts`` as (start, view) while blocks arrive; holds one window and one block."""

    def __init__(self, *, channels: int, length: int, hop: int) -> None:
        self._backlog = Backlog(channels)
        self._length = length
        self._hop = hop
        self._next = 0

    def push(self, block: Samples) -> Iterator[tuple[int, Samples]]:
        """Take the next block; yield the windows that are complete now."""
        self._backlog.append(block)
        return self._complete()

    def _complete(self) -> Iterator[tuple[int, Samples]]:
        while self._next + self._length <= self._backlog.end:
            yield self._next, self._backlog.view(self._next, self._length)
            self._next += self._hop
            # The last window, which ends with the track, may begin before the next regular one.
            self._backlog.forget(max(0, min(self._next, self._backlog.end - self._length)))

    def finish(self) -> Iterator[tuple[int, Samples]]:
        """Yield what remains once the track has ended: its last window, or all of a track shorter than one."""
        total = self._backlog.end
        if total == 0:
            return
        last = max(0, total - self._length)
        if last > self._next - self._hop or self._next == 0:
            yield last, self._backlog.view(last, min(self._length, total))
