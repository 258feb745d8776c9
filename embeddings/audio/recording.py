"""Whether two files hold the same recording: what is heard when, compared with alignment.

A frame's 32 bits say in which bands the sound rises against its neighbours, after Haitsma and Kalker, "A Highly Robust
Audio Fingerprinting System" (ISMIR 2002), on librosa's mel bands. Formats, bit rates, sample rates and loudness leave
nearly all of them as they are; a piece that is played or mixed again has others.
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
FLOOR = 1e-3  # of a frame's mean band: what is softer is what coders add or leave out
LEAST_RISE = 0.2  # of a band's logarithm against its neighbour's: less is noise
SILENT = 1e-6  # of the loudest frame

MOST_APART = 2.0  # seconds, of the lengths and of the beginnings
BLOCK_SECONDS = 3.0
MOST_DIFFERENT = 0.3
"""Of the bits that are set in either, those that are not in both, in the worst block of ``BLOCK_SECONDS``."""
LEAST_BITS = 100  # of a block that says something
LEAST_SECONDS = 5.0  # of sound that both have

Bits = NDArray[np.uint32]
"""One for each frame; 0 is silence, or a sound that stands still."""


def fingerprint(decoders: DecodePool, path: str) -> bytes:
    """Return the bits of a file, 62 bytes a second. Raises AudioError as ``DecodePool.decode`` does."""
    with closing(decoders.decode(path, [FORMAT])) as parts:
        waveforms = (part.waveforms[FORMAT][0] for part in parts if isinstance(part, AudioBlock))
        return bits_of(waveforms).astype("<u4").tobytes()


def bits_of(waveforms: Iterable[NDArray[np.float32]]) -> Bits:
    """Return the bits of mono sound at 8 kHz that comes in pieces, float32 [samples]."""
    energies = np.concatenate([np.zeros((0, BANDS), np.float32), *_energies(waveforms)])
    if len(energies) <= LAG:
        return np.zeros(0, np.uint32)
    loudness = energies.mean(axis=1, keepdims=True)
    logs = np.log(energies + FLOOR * loudness + 1e-20)
    across = np.diff(logs, axis=1)
    rises = across[LAG:] - across[:-LAG] > LEAST_RISE
    sounding = loudness[LAG:, 0] > SILENT * loudness.max()
    packed: Bits = np.packbits(rises, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)
    return np.where(sounding, packed, np.uint32(0))


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
    a, b = np.frombuffer(one, "<u4"), np.frombuffer(other, "<u4")
    if abs(len(a) - len(b)) > MOST_APART * FRAMES_A_SECOND + 1:
        return False
    return difference(a, b) <= MOST_DIFFERENT


def difference(a: Bits, b: Bits) -> float:
    """Return the share of bits that differ in the worst block, where the two fit best; 1 when they have too little."""
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
    telling = either >= LEAST_BITS
    return float((differing[telling] / either[telling]).max(initial=best))


def _counts(a: Bits, b: Bits) -> NDArray[np.int64]:
    """Return int64 [2, frames that sound in both]: how many bits differ, and how many are set in either."""
    size = min(len(a), len(b))
    a, b = a[:size], b[:size]
    heard = (a != 0) & (b != 0)
    a, b = a[heard], b[heard]
    return np.stack([np.bitwise_count(a ^ b), np.bitwise_count(a | b)]).astype(np.int64)
