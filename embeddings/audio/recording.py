"""Whether two files hold the same recording: what is heard when, compared with alignment.

A frame's bits say in which of 32 bands the sound rises against its neighbours, after Haitsma and Kalker, "A Highly
Robust Audio Fingerprinting System" (ISMIR 2002), on librosa's mel bands: 32 for where it clearly rises, 32 for where it
rises at all. Two frames differ where it clearly rises in one, and not at all in the other. So formats, bit rates,
sample rates and loudness change little; a piece that is played or mixed again has others.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import AudioFormat

RATE = 8_000
FORMAT = AudioFormat(RATE, 1)
FRAME, HOP = 4_096, 512  # samples
FRAMES_A_SECOND = RATE / HOP
BANDS, LOWEST, HIGHEST = 33, 200.0, 3_200.0  # Hz; all that a telephone lets through
LAG = 4  # frames between which the sound rises
FLOOR = 2e-3  # of a frame's mean band: what is softer is what coders add or leave out
CLEARLY, AT_ALL = 0.15, 0.05  # rises of a band's logarithm against its neighbour's
SILENT = 1e-6  # of the loudest frame

MOST_APART = 2.0  # seconds, of the lengths and of the beginnings
BLOCK_SECONDS = 3.0
MOST_DIFFERENT = 0.18
"""Of the clear rises in either, those that are none in the other, in the worst block of ``BLOCK_SECONDS``."""
LEAST_RISES = 100  # in a block that says something
LEAST_SECONDS = 5.0  # of sound that both have

Bits = NDArray[np.uint64]
"""One for each frame: clear rises in the lower half, all in the upper. 0 is silence, or a sound that stands still."""
HALF, CLEAR = np.uint64(32), np.uint64(2**32 - 1)


class Fingerprinter:
    """Makes the bits of a file, 125 bytes a second, while it is decoded; keeps little more than them."""

    def __init__(self) -> None:
        self._left: NDArray[np.float32] = np.zeros(0, np.float32)
        self._across: NDArray[np.float32] = np.zeros((0, BANDS - 1), np.float32)
        """Of the last LAG frames."""
        self._bits = [np.zeros(0, np.uint64)]
        self._loudness = [np.zeros(0, np.float32)]

    def push(self, waveform: NDArray[np.float32]) -> None:
        """Take the next samples, float32 at 8 kHz; a frame may begin in one piece and end in the next."""
        self._left = np.concatenate([self._left, waveform])
        count = max(0, (len(self._left) - FRAME) // HOP + 1)
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(self._left, FRAME)[: count * HOP : HOP]
            for start in range(0, count, 256):
                self._hear(frames[start : start + 256])
            self._left = self._left[count * HOP :]

    def _hear(self, frames: NDArray[np.float32]) -> None:
        spectrum = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32))
        energies = (np.abs(spectrum) ** 2 @ _bands().T).astype(np.float32)
        loudness = energies.mean(axis=1, keepdims=True)
        logs = np.log(energies + FLOOR * loudness + 1e-20)
        across = np.concatenate([self._across, np.diff(logs, axis=1)])
        rises = across[LAG:] - across[:-LAG]
        packed = np.packbits(np.concatenate([rises > CLEARLY, rises > AT_ALL], axis=1), axis=1, bitorder="little")
        self._bits.append(packed.view("<u8")[:, 0].astype(np.uint64))
        self._loudness.append(loudness[:, 0])
        self._across = across[-LAG:]

    def bits(self) -> Bits:
        """Return the bits of all that has come."""
        loudness = np.concatenate(self._loudness)
        sounding = loudness[LAG:] > SILENT * loudness.max(initial=0)
        return np.where(sounding, np.concatenate(self._bits), np.uint64(0))

    def fingerprint(self) -> bytes:
        """Return the bits as ``is_same`` takes them."""
        return self.bits().astype("<u8").tobytes()


@cache
def _bands() -> NDArray[np.float32]:
    """Return the mel filters as librosa makes them (Slaney's: linear below 1 kHz), float32 [BANDS, frequencies]."""
    mels = np.linspace(LOWEST * 3 / 200, 15 + 27 * np.log(HIGHEST / 1_000) / np.log(6.4), BANDS + 2)
    edges = np.where(mels < 15, mels * 200 / 3, 1_000 * 6.4 ** ((mels - 15) / 27))
    distances = np.fft.rfftfreq(FRAME, 1 / RATE) - edges[:, None]
    widths = np.diff(edges)[:, None]
    triangles = np.minimum(distances[:-2] / widths[:-1], -distances[2:] / widths[1:])
    heights = 2 / (edges[2:] - edges[:-2])[:, None]
    return (np.maximum(0, triangles) * heights).astype(np.float32)


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two fingerprints are of the same recording."""
    a, b = np.frombuffer(one, "<u8"), np.frombuffer(other, "<u8")
    if abs(len(a) - len(b)) > MOST_APART * FRAMES_A_SECOND + 1:
        return False
    return difference(a, b) <= MOST_DIFFERENT


def difference(a: Bits, b: Bits) -> float:
    """Return the share of rises that differ in the worst block, where the two fit best; 1 when they have too little."""
    best = 1.0
    counts = np.zeros((2, 0), np.int64)
    most = round(MOST_APART * FRAMES_A_SECOND) + 2
    for offset in range(-most, most + 1):
        found = _counts(a[max(0, offset) :], b[max(0, -offset) :])
        differing, either = found.sum(axis=1)
        if found.shape[1] >= LEAST_SECONDS * FRAMES_A_SECOND and differing < best * either:
            best, counts = differing / either, found
    if counts.shape[1] == 0:
        return 1.0
    size = round(BLOCK_SECONDS * FRAMES_A_SECOND)
    differing, either = np.add.reduceat(counts, np.arange(0, counts.shape[1], size), axis=1)
    telling = either >= LEAST_RISES
    return float((differing[telling] / either[telling]).max(initial=best))


def _counts(a: Bits, b: Bits) -> NDArray[np.int64]:
    """Return int64 [2, frames that sound in both]: clear rises that are none in the other, and those in either."""
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    heard = ((a & CLEAR) != 0) & ((b & CLEAR) != 0)
    a, b = a[heard], b[heard]
    differing = (a & ~(b >> HALF) | b & ~(a >> HALF)) & CLEAR
    return np.stack([np.bitwise_count(differing), np.bitwise_count((a | b) & CLEAR)]).astype(np.int64)
