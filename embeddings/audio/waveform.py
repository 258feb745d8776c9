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
"""Samples beyond ±1 are real (lossy decoders overshoot, float files may be scaled as integers); beyond this
they are garbage and would overflow a model's sums."""

_HALF_POWER = math.sqrt(0.5)
_GAINS = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "BL": (_HALF_POWER, 0.0),
    "BR": (0.0, _HALF_POWER),
    "SL": (_HALF_POWER, 0.0),
    "SR": (0.0, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
}
"""(left, right) of a speaker, after ITU-R BS.775; every other speaker goes to both sides at half power."""


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


def downmix(waveform: Waveform, channels: int, speakers: Sequence[str]) -> Waveform:
    """``waveform`` [any, n] with 1 or 2 channels.

    Mono is the mean over all channels, as librosa's. Stereo doubles mono and keeps stereo; of more channels it
    takes the speakers' shares after ITU-R BS.775 without the low-frequency one, scaled so that nothing clips.
    ``speakers`` are FFmpeg's names (FL, FR, FC…), one per channel.
    """
    if channels == 1:
        # librosa adds up a sample's channels side by side in memory: the order decides the last bit.
        side_by_side = np.asfortranarray(waveform) if len(waveform) > 2 else waveform
        return side_by_side.mean(axis=0, keepdims=True) if len(waveform) > 1 else waveform
    if len(waveform) == 1:
        return np.repeat(waveform, 2, axis=0)
    if len(waveform) == 2:
        return waveform
    gains = np.array([_GAINS.get(name, (_HALF_POWER, _HALF_POWER)) for name in speakers], np.float32).T
    mixed: Waveform = (gains / np.maximum(gains.sum(axis=1, keepdims=True), 1)) @ waveform
    return mixed


class Track:
    """One format's waveform of one file, in blocks: equal to downmixing and resampling the whole at once."""

    def __init__(self, wanted: AudioFormat, source_rate: int) -> None:
        self._wanted = wanted
        self._source_rate = source_rate
        self._resampler: Any = None
        if wanted.sample_rate != source_rate:
            self._resampler = soxr.ResampleStream(source_rate, wanted.sample_rate, wanted.channels, quality="HQ")
        self._pieces: list[Waveform] = []
        self._given = 0
        self._made = 0

    def push(self, waveform: Waveform, speakers: Sequence[str]) -> None:
        """Take the next samples, float32 [channels, n] at the source's rate."""
        mixed = downmix(waveform, self._wanted.channels, speakers)
        self._given += mixed.shape[1]
        self._keep(mixed if self._resampler is None else self._resampled(mixed))

    def finish(self) -> None:
        """No more samples will come. The length becomes what librosa makes it: ⌈n × rate / source rate⌉."""
        if self._resampler is None:
            return
        self._keep(self._resampled(np.empty((self._wanted.channels, 0), np.float32), last=True))
        length = math.ceil(self._given * (float(self._wanted.sample_rate) / self._source_rate))
        self._keep(np.zeros((self._wanted.channels, max(0, length - self._made)), np.float32))

    def take(self) -> Waveform:
        """What is ready since the last call, float32 [channels, n], owned by the caller."""
        pieces, self._pieces = self._pieces, []
        return np.concatenate([np.empty((self._wanted.channels, 0), np.float32), *pieces], axis=1)

    def _resampled(self, mixed: Waveform, last: bool = False) -> Waveform:
        made: Waveform = self._resampler.resample_chunk(np.ascontiguousarray(mixed.T), last=last).T
        return made

    def _keep(self, piece: Waveform) -> None:
        self._made += piece.shape[1]
        self._pieces.append(piece)
