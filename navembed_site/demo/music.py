"""Synthesises music, so that demo and tests need no recordings: ten genres that a listener tells apart.

A piece is made of short sounds (notes, drums) that are added to a stereo mix; each sound is computed once. Nothing
but the seed decides key, tempo and melody.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embeddings.encoders.base import Waveform

SAMPLE_RATE = 44_100
Sound = NDArray[np.float32]
"""One note or stroke, mono."""

TABLE = 4096  # samples of a period; a power of two

MAJOR = (0, 2, 4, 5, 7, 9, 11)
MINOR = (0, 2, 3, 5, 7, 8, 10)
PENTATONIC = (0, 2, 4, 7, 9)
PELOG = (0, 1, 3, 7, 8)


class Mix:
    """A stereo mix in the making, and the choices its seed makes."""

    def __init__(self, seconds: float, rng: np.random.Generator) -> None:
        self.seconds = seconds
        self.rng = rng
        self.samples = np.zeros((2, round(seconds * SAMPLE_RATE)), np.float32)
        self._sounds: dict[tuple[object, ...], Sound] = {}

    def play(self, at: float, gain: float, make: Callable[..., Sound], *arguments: object, pan: float = 0.0) -> None:
        """Add the sound ``make(*arguments)`` at ``at`` seconds; ``pan`` from −1 (left) to 1 (right)."""
        key = (make, *arguments)
        if key not in self._sounds:
            self._sounds[key] = make(*arguments)
        start = max(0, round(at * SAMPLE_RATE))
        sound = self._sounds[key][: max(0, self.samples.shape[1] - start)]
        for channel, side in enumerate((1 - pan, 1 + pan)):
            self.samples[channel, start : start + len(sound)] += np.float32(gain * min(1.0, side)) * sound

    def bars(self, seconds: float) -> Iterator[tuple[int, float]]:
        """Yield number and start of each bar that lasts ``seconds``."""
        for number in range(int(self.seconds / seconds) + 1):
            yield number, number * seconds

    def tempo(self, low: float, high: float) -> float:
        """Seconds a beat, for a tempo drawn between two in beats per minute."""
        return 60 / float(self.rng.uniform(low, high))

    def root(self, low: int) -> int:
        """A key: MIDI number of its root, within an octave from ``low``."""
        return low + int(self.rng.integers(12))

    def pick(self, *choices: tuple[int, ...]) -> tuple[int, ...]:
        return choices[int(self.rng.integers(len(choices)))]

    def hall(self, amount: float, size: float = 1.0) -> None:
        """Add early reflections that cross from side to side."""
        dry = self.samples.copy()
        for tap in range(1, 9):
            late = int(SAMPLE_RATE * size * 0.0437 * tap**1.31)
            heard = max(0, dry.shape[1] - late)
            self.samples[:, late:] += np.float32(amount * 0.78**tap) * dry[:: (-1) ** tap, :heard]

    def drive(self, amount: float) -> None:
        """Distort."""
        np.tanh(self.samples * np.float32(amount), out=self.samples)


def pitch(scale: Sequence[int], root: int, degree: int) -> float:
    """Return the frequency in Hz of a degree of a scale; degrees beyond it go on in the next octaves."""
    octave, step = divmod(degree, len(scale))
    return float(440.0 * 2 ** ((root + 12 * octave + scale[step] - 69) / 12))


def seconds_of(seconds: float) -> NDArray[np.float64]:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def edged(sound: NDArray[np.floating], attack: float, release: float = 0.01) -> Sound:
    """Give a sound a linear attack and release in seconds, so that it does not click."""
    shaped = sound.astype(np.float32)
    rise = min(len(shaped), round(attack * SAMPLE_RATE))
    fall = min(len(shaped), round(release * SAMPLE_RATE))
    shaped[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    shaped[len(shaped) - fall :] *= np.linspace(1, 0, fall, dtype=np.float32)
    return shaped


def wave(frequency: float, seconds: float, partials: Sequence[float]) -> NDArray[np.float64]:
    """A steady tone with these amplitudes of its harmonics, from one period in a table."""
    audible = np.asarray(partials[: max(1, int(SAMPLE_RATE / 2.2 / frequency))])
    harmonics = np.arange(1, len(audible) + 1)[:, None]
    table = (audible[:, None] * np.sin(2 * np.pi / TABLE * harmonics * np.arange(TABLE))).sum(axis=0)
    places = (np.arange(round(seconds * SAMPLE_RATE)) * (frequency * TABLE / SAMPLE_RATE)).astype(np.int64)
    found: NDArray[np.float64] = table[places & (TABLE - 1)]
    return found


def string(frequency: float, seconds: float, brightness: float) -> Sound:
    """A plucked or struck string: a bright wave that dies fast over a dark one that lasts."""
    time = seconds_of(seconds)
    bright = wave(frequency, seconds, [brightness**k for k in range(14)])
    dark = wave(frequency * 1.001, seconds, [1, 0.3, 0.1])
    return edged(bright * np.exp(-7 * time) + dark * np.exp(-2.2 * time), 0.003, 0.05)


def organ(frequency: float, seconds: float) -> Sound:
    return edged(wave(frequency, seconds, [1, 0.8, 0.5, 0.7, 0, 0.3, 0, 0.4]), 0.04, 0.08)


def pad(frequency: float, seconds: float) -> Sound:
    """Two voices slightly out of tune, swelling and fading."""
    voices = [wave(frequency * detune, seconds, [1, 0.4, 0.15, 0.05]) for detune in (0.998, 1.003)]
    return edged(voices[0] + voices[1], seconds * 0.4, seconds * 0.4)


def square(frequency: float, seconds: float) -> Sound:
    return edged(np.sign(wave(frequency, seconds, [1])), 0.002, 0.005)


def saw(frequency: float, seconds: float, brightness: float) -> Sound:
    return edged(wave(frequency, seconds, [brightness**k / (k + 1) for k in range(40)]), 0.004, 0.03)


def metal(frequency: float, seconds: float) -> Sound:
    """A struck bar: the partials of a free bar, which are not harmonic."""
    time = seconds_of(seconds)
    partials = zip((1, 2.756, 5.404, 8.933), (1, 0.5, 0.25, 0.12), strict=True)
    strokes = (a * np.sin(2 * np.pi * r * frequency * time) * np.exp(-1.5 * r * time) for r, a in partials)
    return edged(np.asarray(sum(strokes)), 0.002, 0.05)


def noise(seconds: float, decay: float, low: float, high: float, seed: int = 0) -> Sound:
    """Noise between two frequencies in Hz that dies away: hats, snares, brushes, steam."""
    time = seconds_of(seconds)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(time)))
    bins = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE)
    spectrum[(bins < low) | (bins > high)] = 0
    band = np.fft.irfft(spectrum, len(time))
    return edged(band / np.abs(band).max() * np.exp(-decay * time), 0.001)


def kick(pitch_from: float, decay: float) -> Sound:
    time = seconds_of(0.35)
    phase = 45 * time + pitch_from * (1 - np.exp(-30 * time)) / 30
    return edged(np.sin(2 * np.pi * phase) * np.exp(-decay * time), 0.001)


def snare() -> Sound:
    body = string(190.0, 0.25, 0.5)
    return body + 0.8 * noise(0.25, 18, 900, 9000)


def _ambient(mix: Mix) -> None:
    root, length = mix.root(45), float(mix.rng.uniform(5, 7))
    chords = mix.pick((0, 3, 5, 2), (0, 4, 1, 3), (0, 5, 3, 4))
    for bar, start in mix.bars(length):
        for voice in (0, 2, 4, 8):
            frequency = pitch(MAJOR, root, chords[bar % 4] + voice)
            mix.play(start - length * 0.4, 0.3, pad, frequency, length * 1.9, pan=(voice - 3.5) / 6)
        mix.play(start, 0.02, noise, length, 0.1, 300, 1500, pan=0.5)
    mix.hall(0.7, 2.5)


def _techno(mix: Mix) -> None:
    beat, root = mix.tempo(124, 136), mix.root(28)
    riff = mix.rng.choice([0, 0, 0, 2, 4, 7], 8)
    for bar, start in mix.bars(4 * beat):
        for quarter in range(4):
            mix.play(start + quarter * beat, 1.0, kick, 280.0, 9.0)
            mix.play(start + (quarter + 0.5) * beat, 0.25, noise, 0.12, 40, 6000, 16_000, pan=0.2)
        mix.play(start + beat, 0.35, noise, 0.2, 22, 1200, 6000)
        mix.play(start + 3 * beat, 0.35, noise, 0.2, 22, 1200, 6000)
        brightness = (0.5, 0.7, 0.85, 0.92)[bar // 2 % 4]
        for sixteenth, degree in enumerate((*riff, *riff)):
            if sixteenth % 4:
                at = start + sixteenth * beat / 4
                mix.play(at, 0.4, saw, pitch(MINOR, root, int(degree)), beat / 4, brightness)
    mix.drive(1.4)


def _folk(mix: Mix) -> None:
    beat, root = mix.tempo(92, 116), mix.root(48)
    chords = mix.pick((0, 3, 4, 0), (0, 5, 3, 4), (0, 4, 5, 3))
    picking = mix.pick((0, 4, 7, 4, 9, 4), (0, 7, 4, 9, 7, 4))
    for bar, start in mix.bars(3 * beat):
        chord = chords[bar % 4]
        mix.play(start, 0.5, string, pitch(MAJOR, root - 12, chord), 1.6, 0.6)
        for eighth, step in enumerate(picking):
            at = start + eighth * beat / 2 + float(mix.rng.normal(0, 0.006))
            mix.play(at, 0.4, string, pitch(MAJOR, root, chord + step), 1.4, 0.75, pan=0.4 * (eighth % 2) - 0.2)
    mix.hall(0.2)


def _chiptune(mix: Mix) -> None:
    beat, root = mix.tempo(140, 165), mix.root(57)
    melody = mix.rng.choice(8, 16)
    for bar, start in mix.bars(4 * beat):
        chord = (0, 5, 3, 4)[bar % 4]
        for eighth in range(8):
            at = start + eighth * beat / 2
            degree = chord + int(melody[(eighth + 8 * (bar % 2)) % 16])
            mix.play(at, 0.22, square, pitch(MAJOR, root, degree), beat / 2.2, pan=-0.2)
            for third in range(3):  # the fast arpeggio that stood for a chord
                step = pitch(MAJOR, root + 12, chord + 2 * third)
                mix.play(at + third * beat / 6, 0.1, square, step, beat / 6, pan=0.3)
            mix.play(at, 0.3, saw, pitch(MAJOR, root - 24, chord + 4 * (eighth % 2)), beat / 2.2, 0.6)
            mix.play(at, 0.15 if eighth % 4 != 2 else 0.4, noise, 0.08, 45, 2000, 20_000)


def _industrial(mix: Mix) -> None:
    beat, root = mix.tempo(84, 104), mix.root(26)
    for bar, start in mix.bars(4 * beat):
        mix.play(start, 0.6, saw, pitch(MINOR, root, 0), 4 * beat, 0.97)
        mix.play(start, 0.5, saw, pitch(MINOR, root, 0) * 1.06, 4 * beat, 0.97)
        for stroke in np.flatnonzero(mix.rng.random(16) < 0.5).tolist():
            at, pan = start + stroke * beat / 4, float(mix.rng.uniform(-0.7, 0.7))
            mix.play(at, 0.7, noise, 0.2, 12, 200, 3000, stroke % 3, pan=pan)
        for eighth in (0, 3, 6):
            mix.play(start + eighth * beat / 2, 1.2, kick, 400.0, 7.0)
        mix.play(start + (bar % 3) * beat, 0.6, metal, 311.0 + 40 * (bar % 2), 1.2, pan=0.5)
    mix.drive(3.0)


def _piano(mix: Mix) -> None:
    beat, root = mix.tempo(58, 76), mix.root(48)
    chords = mix.pick((0, 5, 3, 4), (0, 2, 5, 4), (5, 3, 0, 4))
    for bar, start in mix.bars(4 * beat):
        chord = chords[bar % 4]
        for step, at in zip((0, 4, 7, 9), (0, 1, 2, 3), strict=True):
            mix.play(start + at * beat, 0.3, string, pitch(MINOR, root - 12, chord + step), 2.2, 0.35, pan=-0.2)
        for at in np.flatnonzero(mix.rng.random(8) < 0.55).tolist():
            degree = chord + int(mix.rng.choice([0, 1, 2, 4, 7])) + 7
            late = float(mix.rng.normal(0, 0.012))
            gain = float(mix.rng.uniform(0.25, 0.5))
            mix.play(start + at * beat / 2 + late, gain, string, pitch(MINOR, root, degree), 2.2, 0.4, pan=0.2)
    mix.hall(0.3, 1.5)


def _breakbeat(mix: Mix) -> None:
    beat, root = mix.tempo(160, 176), mix.root(26)
    kicks, snares = mix.pick((0, 2, 10), (0, 3, 10), (0, 6, 11)), mix.pick((4, 12), (4, 7, 12, 15), (4, 9, 12))
    for bar, start in mix.bars(4 * beat):
        for sixteenth in range(16):
            at = start + sixteenth * beat / 4
            mix.play(at, 0.12 + 0.1 * (sixteenth % 2 == 0), noise, 0.06, 60, 7000, 18_000, pan=0.3)
            if sixteenth in kicks:
                mix.play(at, 1.0, kick, 220.0, 14.0)
            if sixteenth in snares or (bar % 4 == 3 and sixteenth > 12):
                mix.play(at, 0.7, snare)
        mix.play(start, 0.7, wobble, pitch(MINOR, root, (0, 0, 5, 3)[bar % 4]), 4 * beat)


def wobble(frequency: float, seconds: float) -> Sound:
    time = seconds_of(seconds)
    return edged(wave(frequency, seconds, [1, 0.5, 0.2]) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)), 0.02, 0.05)


def _organ(mix: Mix) -> None:
    beat, root = mix.tempo(66, 84), mix.root(43)
    for bar, start in mix.bars(4 * beat):
        chord = (0, 3, 4, 5, 3, 1, 4, 0)[bar % 8]
        mix.play(start, 0.4, organ, pitch(MINOR, root - 12, chord), 4 * beat)
        for voice, steps in enumerate(((0, 0), (2, 3, 2, 1), (4, 5, 4, 4, 6, 5, 4, 2))):
            length = 4 * beat / len(steps)
            for position, step in enumerate(steps):
                frequency = pitch(MINOR, root + 12, chord + step + int(mix.rng.integers(2)))
                mix.play(start + position * length, 0.2, organ, frequency, length, pan=0.4 * (voice - 1))
    mix.hall(0.6, 3.0)


def _gamelan(mix: Mix) -> None:
    beat, root = mix.tempo(96, 120), mix.root(60)
    core = mix.rng.choice(5, 8)
    for bar, start in mix.bars(4 * beat):
        mix.play(start, 0.9, metal, pitch(PELOG, root - 36, 0), 4.0)
        for quarter in range(4):
            degree = int(core[(quarter + 4 * (bar % 2)) % 8])
            mix.play(start + quarter * beat, 0.5, metal, pitch(PELOG, root, degree), 1.5, pan=-0.3)
            for sixteenth in range(4):  # two players whose strokes interlock
                step = degree + 5 + (sixteenth % 2)
                at = start + (quarter + sixteenth / 4) * beat
                mix.play(at, 0.25, metal, pitch(PELOG, root, step), 0.5, pan=0.6 * (-1) ** sixteenth)


def _jazz(mix: Mix) -> None:
    beat, root = mix.tempo(126, 168), mix.root(36)
    for bar, start in mix.bars(4 * beat):
        chord = (1, 4, 0, 5)[bar % 4]
        for quarter, step in enumerate((0, 2, 4, int(mix.rng.choice([1, 5, 6])))):
            mix.play(start + quarter * beat, 0.7, string, pitch(MAJOR, root, chord + step), 0.7, 0.25)
            mix.play(start + quarter * beat, 0.16, noise, 0.4, 9, 5000, 14_000, pan=0.3)
            if quarter % 2:
                mix.play(start + (quarter + 0.66) * beat, 0.12, noise, 0.4, 9, 5000, 14_000, pan=0.3)
                mix.play(start + quarter * beat, 0.12, noise, 0.15, 25, 300, 5000, pan=-0.3)
        for step in (2, 4, 6, 8):
            at = start + (0.66 if bar % 2 else 0) * beat
            mix.play(at, 0.14, string, pitch(MAJOR, root + 24, chord + step), 1.0, 0.45, pan=-0.3)
        for eighth in np.flatnonzero(mix.rng.random(8) < 0.6).tolist():
            swung = (eighth // 2 + (0.66 if eighth % 2 else 0)) * beat
            degree = chord + int(mix.rng.integers(0, 8))
            mix.play(start + swung, 0.3, saw, pitch(MAJOR, root + 36, degree), beat * 0.6, 0.55, pan=0.1)
    mix.hall(0.15)


_GENRES: dict[str, Callable[[Mix], None]] = {
    "ambient": _ambient,
    "techno": _techno,
    "folk": _folk,
    "chiptune": _chiptune,
    "industrial": _industrial,
    "piano": _piano,
    "breakbeat": _breakbeat,
    "organ": _organ,
    "gamelan": _gamelan,
    "jazz": _jazz,
}
GENRES = tuple(_GENRES)


def render(genre: str, *, seconds: float, seed: int) -> Waveform:
    """Return a piece of music: float32 [2, samples] at 44.1 kHz, peak 0.8. The same arguments, the same piece.

    Raises:
        ValueError: unknown genre, or no length.
    """
    if genre not in _GENRES:
        raise ValueError(f"genre is {genre!r}; known are {', '.join(GENRES)}")
    if seconds <= 0:
        raise ValueError(f"seconds is {seconds}; it must be positive")
    mix = Mix(seconds, np.random.default_rng([zlib.crc32(genre.encode()), seed]))
    _GENRES[genre](mix)
    for index, channel in enumerate(mix.samples):
        mix.samples[index] = edged(channel, 0.02, min(1.5, seconds / 4))
    peak = float(np.abs(mix.samples).max())
    return mix.samples * np.float32(0.8 / peak)
