"""Pairs of recordings for the question whether they are the same: synthetic music, and what people do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from embeddings.audio.decode import AudioSummary, decode
from navembed_site.demo.encode import FORMATS, write_audio
from navembed_site.demo.music import GENRES, render

RATE = 44_100
SECONDS = 12.0
Sound = NDArray[np.float32]
"""float32 [2, samples] at 44.1 kHz."""


class Pair(NamedTuple):
    kind: str
    one: bytes
    other: bytes


def shifted(sound: Sound, before: float, after: float) -> Sound:
    """Return the sound with so many seconds of silence before and after; negative ones are cut off."""
    sound = sound[:, max(0, round(-before * RATE)) : sound.shape[1] + min(0, round(after * RATE))]
    return np.pad(sound, ((0, 0), (max(0, round(before * RATE)), max(0, round(after * RATE)))))


def with_voice(sound: Sound, seed: int) -> Sound:
    """A melody that no instrument plays: gliding, with vibrato and breaths."""
    rng = np.random.default_rng(seed)
    time = np.arange(sound.shape[1]) / RATE
    steps = rng.integers(0, 12, int(SECONDS * 2) + 2)
    pitch = 220 * 2 ** (np.interp(time, np.arange(len(steps)) / 2, steps) / 12 + 0.02 * np.sin(38 * time))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase) / k for k in range(1, 9)) * (np.sin(2 * np.pi * time / 4) > -0.6)
    return np.asarray(sound + 0.3 * voice, np.float32)


def played_again(sound: Sound, seed: int, drift: float = 0.02) -> Sound:
    """The same notes, never quite at the same time; in a hall, with an audience."""
    rng = np.random.default_rng(seed)
    bends = 1 + rng.uniform(-drift, drift, 12)
    speed = np.interp(np.linspace(0, 1, sound.shape[1]), np.linspace(0, 1, len(bends)), bends)
    places = np.cumsum(speed)
    live = np.stack([np.interp(places, np.arange(sound.shape[1]), channel) for channel in sound])
    live[:, 4_000:] += 0.4 * live[:, :-4_000]
    return np.asarray(live + 0.02 * rng.standard_normal(live.shape), np.float32)


def remixed(sound: Sound, seed: int) -> Sound:
    """At another tempo, over other drums."""
    other = np.stack([soxr.resample(channel, RATE, RATE * 0.96) for channel in sound])
    return np.asarray(fitted(other, sound) + 0.7 * render("techno", seconds=SECONDS, seed=seed + 90), np.float32)


def covered(sound: Sound) -> Sound:
    """Two semitones higher, at the old speed: played in another key."""
    from librosa.effects import pitch_shift

    return np.stack([pitch_shift(channel, sr=RATE, n_steps=2) for channel in sound]).astype(np.float32)


def edited(sound: Sound) -> Sound:
    """A quarter of it is taken out, and the beginning comes once more instead."""
    half, quarter = sound.shape[1] // 2, sound.shape[1] // 4
    return np.concatenate([sound[:, :half], sound[:, half + quarter :], sound[:, :quarter]], axis=1)


def fitted(sound: Sound, like: Sound) -> Sound:
    return np.pad(sound[:, : like.shape[1]], ((0, 0), (0, max(0, like.shape[1] - sound.shape[1]))))


SAME: dict[str, tuple[str, Callable[[Sound], Sound]]] = {
    "mp3": (".mp3", lambda sound: sound),
    "mp3 of 64 kbit/s": (".64.mp3", lambda sound: sound),
    "mp3 of 320 kbit/s": (".320.mp3", lambda sound: sound),
    "aac": (".m4a", lambda sound: sound),
    "vorbis": (".ogg", lambda sound: sound),
    "opus": (".opus", lambda sound: sound),
    "softer": (".flac", lambda sound: sound * np.float32(0.2)),
    "louder": (".flac", lambda sound: sound / np.abs(sound).max()),
    "silence before": (".mp3", lambda sound: shifted(sound, 1, 0)),
    "silence after": (".mp3", lambda sound: shifted(sound, 0, 1)),
    "trimmed before": (".mp3", lambda sound: shifted(sound, -0.973, 0)),
    "trimmed after": (".mp3", lambda sound: shifted(sound, 0, -1)),
}
LOW_RATE = "22.05 kHz"
for kilobits in (64, 320):
    FORMATS[f".{kilobits}.mp3"] = replace(FORMATS[".mp3"], bit_rate=1000 * kilobits)


@cache
def piece(genre: str, seed: int) -> Sound:
    return render(genre, seconds=SECONDS, seed=seed)


def print_of(path: Path) -> bytes:
    *_, summary = decode(str(path), [], sound=True)
    assert isinstance(summary, AudioSummary)
    return bytes.fromhex(summary.sound)


def written(sound: Sound, folder: Path, suffix: str = ".flac", rate: int = RATE) -> bytes:
    path = folder / f"x{suffix}"
    if rate != RATE:
        sound = np.stack([soxr.resample(channel, RATE, rate) for channel in sound])
    write_audio(path, np.clip(sound, -1, 1), rate)
    return print_of(path)


def same_pairs(folder: Path, seed: int) -> Iterator[Pair]:
    for genre in GENRES:
        sound = piece(genre, seed)
        original = written(sound, folder)
        for kind, (suffix, change) in SAME.items():
            yield Pair(kind, original, written(change(sound), folder, suffix))
        yield Pair(LOW_RATE, original, written(sound, folder, ".mp3", 22_050))


def different_pairs(folder: Path, seed: int) -> Iterator[Pair]:
    former: list[bytes] = []
    for genre in GENRES:
        sound = piece(genre, seed)
        original = written(sound, folder)
        sung = written(with_voice(sound, seed), folder)
        yield Pair("live", original, written(played_again(sound, seed), folder))
        yield Pair("remix", original, written(remixed(sound, seed), folder))
        yield Pair("cover", original, written(covered(sound), folder))
        yield Pair("instrumental", sung, original)
        yield Pair("edit", original, written(edited(sound), folder))
        yield Pair("another movement", original, written(piece(genre, seed + 50), folder))
        yield from (Pair("another piece", original, other) for other in former)
        former.append(original)
