"""From the sample arrays of a decoder to the waveforms that models want; NumPy and soxr only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from embeddings.encoders.base import AudioFormat, Waveform

LOUDEST = 65_536.0
"""Samples beyond ±1 are real (lossy decoders overshoot); beyond this they are garbage and would overflow a model's
sums."""

STILL = 2.0**-14
"""What moves less, two steps of 16 bits, is digital silence or a constant signal."""
LOST = 0.1
"""A mix with less than this share of the stronger channel's energy has lost the signal: its channels cancel out."""

SIZES = 129
_FAR_BEYOND = 3  # a power of two, as those that follow
_INTEGERS = (15, 23, 31)
_QUIET = 4
_ALL_BUT_BROKEN = 0.999
_STILL_BLOCK = 1_024
_HALF_POWER = math.sqrt(0.5)
_FRONT = {"FL", "FR", "FLC", "FRC", "WL", "WR", "DL", "DR"}
_NAMELESS = {"", "NONE"}
_ORDER = ["FL", "FR"]  # of channels without names, in every file format that has an order


def as_float(samples: NDArray[np.generic], channels: int) -> Waveform:
    """Decoded samples to float32 [channels, n], full scale ±1.

    ``samples`` is planar [channels, n] or packed [1, n × channels] of uint8, int16, int32, float32 or float64.
    Integers are divided by their full scale, as libsndfile does. NaN and infinities are left: see ``sanitise``.
    """
    planar = samples if samples.shape[0] == channels else samples.reshape(-1, channels).T
    if planar.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(planar, dtype=np.float32)
    scale = 0.5 ** (8 * planar.dtype.itemsize - 1)
    waveform: Waveform = np.multiply(planar, scale, dtype=np.float32, order="C", casting="same_kind")
    return waveform - np.float32(1) if planar.dtype == np.uint8 else waveform


def sanitise(waveform: Waveform) -> int:
    """Make ``waveform`` fit for a model, in place: what is not finite becomes 0, the rest stays within ±LOUDEST.

    Returns how many samples were not finite.
    """
    if waveform.size == 0 or max(waveform.max(), -waveform.min()) <= LOUDEST:
        return 0
    broken = ~np.isfinite(waveform)
    waveform[broken] = 0
    np.clip(waveform, -LOUDEST, LOUDEST, out=waveform)
    return int(np.count_nonzero(broken))


def sounding(waveform: Waveform) -> int:
    """How many samples lie in short blocks in which some channel moves by more than ``STILL`` and 1 % of its level."""
    whole = waveform[:, : waveform.shape[1] // _STILL_BLOCK * _STILL_BLOCK]
    blocks = [whole.reshape(len(whole), -1, _STILL_BLOCK), waveform[:, None, whole.shape[1] :]]
    return sum(int(_moves(block).sum()) * block.shape[2] for block in blocks if block.size)


def _moves(blocks: Waveform) -> NDArray[np.bool_]:
    high, low = blocks.max(axis=2), blocks.min(axis=2)
    moves: NDArray[np.bool_] = (high - low > np.maximum(STILL, 0.01 * np.maximum(high, -low))).any(axis=0)
    return moves


def sizes(waveform: Waveform) -> NDArray[np.int64]:
    """How many samples there are of each size: number n counts those from 2^(n-1) up to 2^n, 0 all smaller ones."""
    exponents = np.frexp(waveform[np.isfinite(waveform)])[1]
    return np.bincount(np.clip(exponents, 0, SIZES - 1), minlength=SIZES)


def gain_for(counts: NDArray[np.int64]) -> float:
    """The power of two that brings samples far beyond full scale back to it, by their ``sizes``; 1 for all others.

    Float files may hold integers (±32768), also of quiet music. Broken samples decide nothing: the loudest thousandth
    is left out.
    """
    size = int(np.searchsorted(np.cumsum(counts), _ALL_BUT_BROKEN * counts.sum()))
    if size <= _FAR_BEYOND:
        return 1.0
    return 0.5 ** next((full for full in _INTEGERS if 0 <= full - size <= _QUIET), size)


def to_stereo(waveform: Waveform, speakers: Sequence[str]) -> Waveform:
    """``waveform`` [any, n] as [2, n]: mono is doubled, of more than two channels each speaker has its share.

    ``speakers`` are FFmpeg's names (FL, FR, FC…), one per channel, or empty. Shares are those of ITU-R BS.775 without
    the low-frequency one and are not scaled down: music that uses two of eight channels is as loud as in stereo.
    """
    if len(waveform) == 1:
        return np.repeat(waveform, 2, axis=0)
    if len(waveform) == 2:
        return waveform
    named = [*_ORDER, *speakers[2:]] if set(speakers) <= _NAMELESS else speakers
    mixed: Waveform = np.array([_shares(name) for name in named], np.float32).T @ waveform
    return mixed


def _shares(speaker: str) -> tuple[float, float]:
    """What left and right get of a speaker."""
    if speaker.startswith("LFE"):
        return (0.0, 0.0)
    power = 1.0 if speaker in _FRONT else _HALF_POWER
    if speaker.rstrip("C").endswith("L"):
        return (power, 0.0)
    if speaker.rstrip("C").endswith("R"):
        return (0.0, power)
    return (_HALF_POWER, _HALF_POWER) if speaker == "FC" else (0.5, 0.5)


class Mono:
    """Mixes one file's channels to mono, piece by piece: the mean, as librosa's, of what stereo would be.

    Where the channels cancel out it is the stronger one instead, and that one as long as they do.
    """

    def __init__(self) -> None:
        self._alone: int | None = None

    @property
    def is_alone(self) -> bool:
        """Whether the last piece was one channel instead of a mix."""
        return self._alone is not None

    def mixed(self, waveform: Waveform, speakers: Sequence[str]) -> Waveform:
        """float32 [1, n] of [any, n]."""
        if len(waveform) == 1:
            self._alone = None
            return waveform
        sides = to_stereo(waveform, speakers)
        mix: Waveform = sides.mean(axis=0, keepdims=True)
        energies = [float(np.vdot(side, side)) for side in sides]
        if float(np.vdot(mix, mix)) >= LOST * max(energies):
            self._alone = None
            return mix
        if self._alone is None or energies[self._alone] < LOST * max(energies):
            self._alone = int(np.argmax(energies))
        return np.ascontiguousarray(sides[self._alone : self._alone + 1])


class Track:
    """One format's waveform of one file, in blocks: equal to downmixing and resampling the whole at once.

    Where the source's rate changes, what comes next is resampled by itself.
    """

    def __init__(self, wanted: AudioFormat) -> None:
        self._wanted = wanted
        self._mono = Mono()
        self._source_rate = 0
        self._resampler: Any = None
        self._pieces: list[Waveform] = []
        self.cancelled_seconds = 0.0
        """Of audio whose channels cancel out."""
        self._given = 0
        self._made = 0

    def push(self, waveform: Waveform, source_rate: int, speakers: Sequence[str]) -> None:
        """Take the next samples, float32 [channels, n] at ``source_rate``."""
        if source_rate != self._source_rate:
            self.finish()
            self._begin(source_rate)
        mixed = self._mono.mixed(waveform, speakers)
        if self._wanted.channels == 2:
            mixed = to_stereo(waveform, speakers)
            if self._mono.is_alone:
                mixed = mixed * np.array([[1], [-1]], np.float32)  # one of them was recorded upside down
        self.cancelled_seconds += waveform.shape[1] / source_rate if self._mono.is_alone else 0.0
        self._given += mixed.shape[1]
        self._keep(mixed if self._resampler is None else self._resampled(mixed))

    def finish(self) -> None:
        """No more samples of this rate will come. Their length becomes librosa's: ⌈n × rate / source rate⌉."""
        if self._resampler is None:
            return
        self._keep(self._resampled(np.empty((self._wanted.channels, 0), np.float32), last=True))
        length = math.ceil(self._given * (float(self._wanted.sample_rate) / self._source_rate))
        self._keep(np.zeros((self._wanted.channels, max(0, length - self._made)), np.float32))

    def take(self) -> Waveform:
        """What is ready since the last call, float32 [channels, n], owned by the caller."""
        pieces, self._pieces = self._pieces, []
        return np.concatenate([np.empty((self._wanted.channels, 0), np.float32), *pieces], axis=1)

    def _begin(self, source_rate: int) -> None:
        self._source_rate, self._given, self._made = source_rate, 0, 0
        self._resampler = None
        if self._wanted.sample_rate != source_rate:
            rates = (source_rate, self._wanted.sample_rate)
            self._resampler = soxr.ResampleStream(*rates, self._wanted.channels, quality="HQ")

    def _resampled(self, mixed: Waveform, last: bool = False) -> Waveform:
        made: Waveform = self._resampler.resample_chunk(np.ascontiguousarray(mixed.T), last=last).T
        return made

    def _keep(self, piece: Waveform) -> None:
        self._made += piece.shape[1]
        self._pieces.append(piece)
