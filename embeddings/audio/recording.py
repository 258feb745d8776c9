"""Whether two files hold the same recording: what is heard when, compared with alignment.

A frame's bits say in which of 32 bands the sound rises against its neighbours, after Haitsma and Kalker, "A Highly
Robust Audio Fingerprinting System" (ISMIR 2002), on librosa's mel bands: 32 for where it clearly rises, 32 for where it
rises at all. Two frames differ where it clearly rises in one, and not at all in the other. So formats, bit rates,
sample rates and loudness change little; a piece that is played or mixed again has others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.pool import AudioBlock, DecodePool
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


def fingerprint(decoders: DecodePool, path: str) -> bytes:
    """Return the bits of a file, 125 bytes a second. Raises AudioError as ``DecodePool.decode`` does."""
    with closing(decoders.decode(path, [FORMAT])) as parts:
        waveforms = (part.waveforms[FORMAT][0] for part in parts if isinstance(part, AudioBlock))
        return bits_of(waveforms).astype("<u8").tobytes()


def bits_of(waveforms: Iterable[NDArray[np.float32]]) -> Bits:
    """Return the bits of mono sound at 8 kHz that comes in pieces, float32 [samples]."""
    energies = np.concatenate([np.zeros((0, BANDS), np.float32), *_energies(waveforms)])
    if len(energies) <= LAG:
        return np.zeros(0, np.uint64)
    loudness = energies.mean(axis=1, keepdims=True)
    logs = np.log(energies + FLOOR * loudness + 1e-20)
    across = np.diff(logs, axis=1)
    rises = across[LAG:] - across[:-LAG]
    sounding = loudness[LAG:, 0] > SILENT * loudness.max()
    found = np.concatenate([rises > CLEARLY, rises > AT_ALL], axis=1) & sounding[:, None]
    packed: Bits = np.packbits(found, axis=1, bitorder="little").view("<u8")[:, 0].astype(np.uint64)
    return packed


def _energies(waveforms: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Yield float32 [frames, bands] for each piece; a frame may begin in one and end in the next."""
    left = np.zeros(0, np.float32)
    for waveform in waveforms:
        left = np.concatenate([left, waveform])
        count = max(0, (len(left) - FRAME) // HOP + 1)
        if count:
            frames = np.lib.stride_tricks.sliding_window_view(left, FRAME)[: count * HOP : HOP]
            for start in range(0, count, 256):
                spectrum = np.fft.rfft(frames[start : start + 256] * np.hanning(FRAME).astype(np.float32))
                yield (np.abs(spectrum) ** 2 @ _bands().T).astype(np.float32)
        left = left[count * HOP :]


@cache
def _bands() -> NDArray[np.float32]:
    from librosa.filters import mel

    filters: NDArray[np.float32] = mel(sr=RATE, n_fft=FRAME, n_mels=BANDS, fmin=LOWEST, fmax=HIGHEST)
    return filters


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
