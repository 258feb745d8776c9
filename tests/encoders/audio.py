"""Synthetic audio: float32 [channels, samples] that is neither silent nor white."""

from __future__ import annotations

import numpy as np

from embeddings.encoders.base import AudioFormat, Waveform


def noise(audio: AudioFormat, seconds: float, *, seed: int = 0) -> Waveform:
    """Noise whose loudness changes over the track."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * audio.sample_rate)
    loudness = 0.05 + 0.1 * np.abs(np.sin(np.arange(samples) / audio.sample_rate))
    return np.asarray(rng.standard_normal((audio.channels, samples)) * loudness, np.float32)


def piece(audio: AudioFormat, seconds: float, *, pitch: float, beat: float, grit: float, seed: int = 0) -> Waveform:
    """A tone with harmonics over a beat: another pitch, beat or share of noise is another kind of music."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * audio.sample_rate)) / audio.sample_rate
    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    pulse = np.exp(-8 * ((time * beat) % 1))
    mix = 0.1 * tone * pulse + grit * rng.standard_normal((audio.channels, len(time)))
    return np.asarray(mix, np.float32)
