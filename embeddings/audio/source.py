"""A file's audio as FFmpeg finds it, and the judgement on the whole: the only module that imports the decoder.

Files of a music library are damaged in every way there is. What can be decoded is decoded, packet by packet, and
the whole is judged at the end. Declared durations are reported, never believed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from embeddings.audio.files import DEMUXERS, PROTOCOLS, cut_off, is_length_trustworthy, look_at, read_through, urls
from embeddings.audio.summary import DEFAULTS, AudioSummary, Limits
from embeddings.audio.waveform import SIZES, as_float, gain_for, sanitise, sizes, sounding
from embeddings.encoders.base import Waveform
from embeddings.errors import AudioError

SHORTEST_SECONDS = 1.0
SHORTEST_SOUND = 0.75
"""Seconds: at the edges of a constant signal, lossy encoders ring for less."""
COMPLETE = 0.98
"""Below this share of the declared length we look whether the storage, not the file, is to blame."""
PADDING_SECONDS = 0.2
"""That encoders add to a track, and players leave out."""
ROUNDING_SECONDS = 0.005
"""By which a declared length may differ from a lossless file's own: Matroska counts milliseconds."""

_CHUNK = 65_536  # samples converted at a time: enough for NumPy, little enough for the cache
_PACKET_SECONDS = 60.0  # that a packet holds at most; a container may say anything
_DEMUX_ERRORS = 16  # in a row: the demuxer has lost its way for good
_RATES = range(1_000, 6_000_000)  # DSD1024 arrives as 5.6 MHz
_CHANNELS = range(1, 65)
_MPEG = ("mp1", "mp2", "mp3")  # where the rate changes, FFmpeg gives the first frame the former one
_FLOATS = ("pcm_f", "wavpack")  # codecs that keep float samples of any size

Progress = Callable[[], None]


class Source:
    """A file's audio, and what has come out of it so far.

    ``exact``: of a lossless file, what does not match its checksums is missing.
    """

    def __init__(self, path: str, progress: Progress, limits: Limits = DEFAULTS, *, exact: bool = False) -> None:
        self._path = path
        self._progress = progress
        self._limits = limits
        self._is_exact = exact
        self._gain = 0.0
        """That integers written as floats are multiplied by; 0 when it is not known yet."""
        self.digest = hashlib.sha256()
        self.errors = 0
        self.rate = 0
        self.speakers: list[str] = []
        self.cancelled_seconds = 0.0
        """In which the channels cancel out."""
        self._first: tuple[str, int, int] = ("", 0, 0)
        self._codec = ""
        self._stream: Any = None
        self._format: tuple[int, str, str] | None = None
        self._packer: Any = None
        self._declared_seconds = 0.0
        self._trustworthy = True
        self._is_lossless = False
        self._is_counted = False
        self._frames = 0
        self._samples: Counter[int] = Counter()  # by sample rate
        self._sounding_seconds = 0.0
        self._values = 0
        self._not_numbers = 0

    @property
    def _seconds(self) -> float:
        return sum(samples / rate for rate, samples in self._samples.items() if rate)

    def packets(self) -> Iterator[Any]:
        """The audio stream's packets, hashed; None after each part of the file, which drains the decoder."""
        look_at(self._path)
        for number, url in enumerate(urls(self._path, self._progress)):
            try:
                with self._opened(url) as (container, stream):
                    self._begin(container, stream)
                    yield from self._demuxed(container, stream)
                    yield None
            except AudioError:
                if not number:
                    raise
                self.errors += 1

    @contextmanager
    def _opened(self, url: str) -> Iterator[tuple[Any, Any]]:
        options = {"protocol_whitelist": PROTOCOLS, "format_whitelist": DEMUXERS}
        try:
            container = av.open(url, options=options, metadata_errors="replace")
        except MemoryError:
            raise
        except (av.FFmpegError, OSError, ValueError) as error:
            read_through(self._path, self._progress)
            raise AudioError(f"not a readable audio file: {getattr(error, 'strerror', error)}") from error
        with container:
            stream = container.streams.best("audio")
            if stream is None:
                if container.streams.audio:
                    raise AudioError("damaged: no sample rate and no channels can be made out")
                raise AudioError(f"has no audio stream ({container.format.long_name})")
            if stream.codec_context is None:
                raise AudioError("its audio has a codec that is not known")
            stream.codec_context.thread_type = "NONE"
            yield container, stream

    def _begin(self, container: Any, stream: Any) -> None:
        context = stream.codec_context
        self._stream = stream
        self._codec = context.codec.canonical_name
        self._is_lossless = context.codec.lossless
        if self._is_exact and self._is_lossless:
            context.options = {"err_detect": "crccheck+explode"}
        self.digest.update(f"{self._codec} {context.rate} {context.channels}\n".encode())
        seconds = _declared_seconds(container, stream) * cut_off(self._path)
        byte_rate = context.bit_rate / 8 if context.bit_rate and self._codec.startswith("pcm") else 0
        self._declared_seconds += seconds
        self._trustworthy &= is_length_trustworthy(self._path, container.format.name, seconds, byte_rate)

    def _demuxed(self, container: Any, stream: Any) -> Iterator[Any]:
        failures = 0
        demuxed = container.demux(stream)
        while failures < _DEMUX_ERRORS:
            self._progress()
            try:
                packet = next(demuxed, None)
            except MemoryError:
                raise
            except (av.FFmpegError, OSError):
                self.errors += 1
                failures += 1
                demuxed = container.demux(stream)
                continue
            if packet is None or packet.size == 0:
                break
            failures = 0
            self.digest.update(packet)
            yield packet

    def frames(self) -> Iterator[Any]:
        """Decoded frames; ``rate`` and ``speakers`` are those of the last one."""
        for packet in self.packets():
            if self._declared_seconds > self._limits.max_hours * 3_600 and not self._is_counted:
                self._count_packets()
            try:
                frames = self._stream.codec_context.decode(packet)
            except MemoryError:
                raise
            except (av.FFmpegError, OSError, ValueError):
                self.errors += 1
                continue
            for frame in frames:
                if self._codec in _MPEG:
                    frame.sample_rate = self._stream.codec_context.sample_rate
                yield frame
                self._frames += 1
                self._samples[frame.sample_rate] += frame.samples
                self._require_length(self._seconds)

    def _count_packets(self) -> None:
        """Refuse at once what declares to be too long, and is: to hear it up to the limit takes hours."""
        self._is_counted = True
        seconds = 0.0
        for packet in Source(self._path, self._progress).packets():
            if packet is not None and packet.duration:
                seconds += min(_PACKET_SECONDS, float(packet.duration * packet.time_base))
                self._require_length(seconds)

    def _require_length(self, seconds: float) -> None:
        if seconds > self._limits.max_hours * 3_600:
            raise AudioError(f"longer than {self._limits.max_hours:g} h ({self._limits.set_by})")

    def waveforms(self) -> Iterator[Waveform]:
        """float32 [channels, about _CHUNK samples] at ``rate``; each of one format."""
        arrays: list[Any] = []
        waiting = 0
        for frame in self.frames():
            shape = (frame.sample_rate, frame.layout.name, frame.format.name)
            if arrays and (waiting >= _CHUNK or shape != self._format):
                yield self._joined(arrays)
                arrays, waiting = [], 0
            if shape != self._format:
                self._accept(frame)
                self._format = shape
            arrays.append(self._array(frame))
            waiting += frame.samples
        if arrays:
            yield self._joined(arrays)

    def summary(self) -> AudioSummary:
        codec, rate, channels = self._first
        return AudioSummary(
            audio_seconds=self._seconds,
            declared_seconds=self._declared_seconds,
            errors=self.errors,
            audio_hash=self.digest.hexdigest(),
            codec=codec,
            sample_rate=rate,
            channels=channels,
            note="; ".join(self._notes()),
        )

    def _notes(self) -> Iterator[str]:
        missing = self._declared_seconds - self._seconds
        if self._trustworthy and missing > max(PADDING_SECONDS, (1 - COMPLETE) * self._declared_seconds):
            yield f"{_brief(missing)} of {_brief(self._declared_seconds)} s could not be decoded"
        if self.cancelled_seconds:
            heard = f"{_brief(self.cancelled_seconds)} of {_brief(self._seconds)} s"
            yield f"its channels cancel out for {heard} and were heard as if they did not"
        if self._gain not in (0.0, 1.0):
            yield f"its samples go far beyond full scale and were divided by {1 / self._gain:,.0f}"

    def verdict(self) -> str:
        """Why the file is refused; empty when it is not."""
        return self.damage() or self._shortage()

    @property
    def bits(self) -> int:
        """That hold a sample of the last frame."""
        name = self._format[2] if self._format else ""
        if name.startswith(("s32", "s64")) or (name.startswith(("flt", "dbl")) and self._codec.startswith(_FLOATS)):
            return 24
        return 16

    def damage(self) -> str:
        if self._frames == 0:
            return f"no audio could be decoded ({self.errors} damaged packets)"
        if self.errors > self._frames:
            return f"mostly damaged: {self.errors} of {self.errors + self._frames} packets could not be decoded"
        if self._not_numbers * 2 > self._values:
            return "mostly damaged: most samples are not numbers"
        return ""

    def loss(self) -> str:
        """What is missing of a lossless file; empty when nothing is, or when nobody can say so."""
        missing = self._declared_seconds - self._seconds
        if self._is_lossless and self._trustworthy and missing > ROUNDING_SECONDS:
            return f"damaged: {missing:.3g} of {_brief(self._declared_seconds)} s are missing"
        if self._is_lossless and not self._trustworthy and self.errors:
            return f"damaged: {self.errors} packets could not be decoded"
        return ""

    def _shortage(self) -> str:
        if self._seconds < SHORTEST_SECONDS:
            return f"only {self._seconds:.2f} s of audio; at least {SHORTEST_SECONDS:g} s is needed"
        if self._trustworthy and self._seconds < self._limits.min_decoded * self._declared_seconds:
            return f"only {_brief(self._seconds)} of {_brief(self._declared_seconds)} s could be decoded"
        if self._sounding_seconds < SHORTEST_SOUND:
            return "has no sound to compare: digital silence or a constant signal"
        return ""

    def _accept(self, frame: Any) -> None:
        channels = frame.layout.nb_channels
        if frame.sample_rate not in _RATES:
            raise AudioError(f"claims a sample rate of {frame.sample_rate} Hz")
        if channels not in _CHANNELS:
            raise AudioError(f"claims {channels} channels")
        self.rate = frame.sample_rate
        names = [channel.name for channel in frame.layout.channels]
        self.speakers = names if len(names) == channels else [""] * channels
        self._first = self._first if self._first[0] else (self._codec, self.rate, channels)
        self._packer = None
        # What PyAV 18.1 cannot hand to NumPy: 64-bit integers, and planes from 8 on (it looks for them until it
        # meets a null pointer, and crashes).
        if frame.format.name.startswith("s64"):
            self._packer = av.AudioResampler(format="dbl")
        elif frame.format.is_planar and channels >= 8:
            self._packer = av.AudioResampler(format=frame.format.packed.name)

    def _array(self, frame: Any) -> NDArray[np.generic]:
        if self._packer is not None:
            [frame] = self._packer.resample(frame)
        samples: NDArray[np.generic] = frame.to_ndarray()
        return samples

    def _joined(self, arrays: list[Any]) -> Waveform:
        samples = np.concatenate(arrays, axis=1)
        waveform = as_float(samples, len(self.speakers))
        self._values += waveform.size
        if samples.dtype.kind == "f":
            if self._codec.startswith(_FLOATS):
                self._gain = self._gain or _Scale(self._path, self._progress).gain()
                waveform *= np.float32(self._gain)
            self._not_numbers += sanitise(waveform)
        self._sounding_seconds += sounding(waveform) / self.rate
        return waveform


class _Scale(Source):
    """A file of floats decoded once more, because only all of it tells at which scale they are."""

    def gain(self) -> float:
        self._sizes = np.zeros(SIZES, np.int64)
        for _ in self.waveforms():
            pass
        return gain_for(self._sizes)

    def _joined(self, arrays: list[Any]) -> Waveform:
        waveform = as_float(np.concatenate(arrays, axis=1), len(self.speakers))
        self._sizes += sizes(waveform)
        return waveform


def _declared_seconds(container: Any, stream: Any) -> float:
    seconds = (container.duration or 0) / av.time_base
    if stream.duration:
        seconds = stream.duration * stream.time_base
    return max(0.0, float(seconds))


def _brief(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0")
