"""How fast devices are, and what that means for the size of a chunk and for the time that a job takes.

Each device has its own measured rates: a chunk is so many seconds of work wherever it is done, so a slow device never
holds a large one at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from batches.models import Device, ModelProgress
from embeddings.encoders.registry import encoder_class
from embeddings.models import Track

Rates = Mapping[str, float]
"""Seconds of audio per second of work, by model."""
CHUNK_SECONDS = 10.0  # of estimated work: short enough for live progress, long enough to fill batches
SHORTEST_SECONDS = 1.0
PARTS = 3  # a device, which has two chunks in hand, takes so little of what is left that the others end with it
GUESSED_TERAFLOPS = 1.0  # of a device, until a rate has been measured
SMOOTHING = 0.3  # weight of the newest chunk in a rolling rate


def rate_of(device: Device, model: str) -> float:
    """Return the seconds of audio that a device embeds in a second, as measured or by the model's cost."""
    rate = device.rates.get(model) or GUESSED_TERAFLOPS / encoder_class(model).teraflop_per_second
    return float(rate)


def rolling(old: float | None, measured: float) -> float:
    """Return a rolling rate after another measurement."""
    return measured if old is None else (1 - SMOOTHING) * old + SMOOTHING * measured


def estimated_seconds(track: Track, device: Device, model: str) -> float:
    """Return the work that a track weighs for one model on this device."""
    return max(1.0, track.duration) / rate_of(device, model)


def audio_left(progress: Iterable[ModelProgress]) -> dict[str, float]:
    """Return the seconds of audio that a job has still to embed, by model."""
    left = {row.model: row.audio_seconds_total - row.audio_seconds_done for row in progress}
    return {model: audio for model, audio in left.items() if audio > 0}


def seconds_for(audio: Mapping[str, float], rates: Iterable[Rates]) -> float | None:
    """Return how long devices of these ``rates`` need together for so many seconds of ``audio`` of each model.

    None when none of them has been measured with all these models.
    """
    audio = {model: seconds for model, seconds in audio.items() if seconds}
    if not audio:
        return 0.0
    each = [sum(audio[m] / r[m] for m in audio) for r in rates if audio.keys() <= r.keys() and all(r.values())]
    together = sum(1 / seconds for seconds in each)
    return 1 / together if each and math.isfinite(1 / together) else None


def chunk_seconds(progress: Iterable[ModelProgress], devices: Sequence[Device]) -> float:
    """Return how much work a chunk may be: less towards the end of a job that several devices share."""
    if len(devices) < 2:
        return CHUNK_SECONDS
    left = audio_left(progress)
    seconds = seconds_for(left, [{model: rate_of(device, model) for model in left} for device in devices])
    return min(CHUNK_SECONDS, max(SHORTEST_SECONDS, (seconds or 0.0) / PARTS))
