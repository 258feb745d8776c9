"""Audio files to waveforms and fingerprints: the only module that imports the decoder.

Files of a music library are damaged in every way there is. What can be decoded is decoded, packet by packet, and
the whole is judged at the end. Declared durations are reported, never believed.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from embeddings.audio.summary import BLOCK_SECONDS, AudioSummary
from embeddings.audio.waveform import Track, as_float, sanitise
from embeddings.encoders.base import AudioFormat, Waveform
from embeddings.errors import AudioError, AudioFileMissing, FileUnreachable

__all__ = ["AudioSummary", "Block", "audio_hash", "decode"]

SHORTEST_SECONDS = 1.0
COMPLETE = 0.98
"""Below this share of the declared length we look whether the storage, not the file, is to blame."""

_CHUNK = 65_536  # samples converted at a time: enough for NumPy, little enough for the cache
_DEMUX_ERRORS = 16  # in a row: the demuxer has lost its way for good
_RATES = range(1_000, 6_000_000)  # DSD1024 arrives as 5.6 MHz
_CHANNELS = range(1, 65)

Block = dict[AudioFormat, Waveform]
"""float32 [channels, samples] per format."""
Progress = Callable[[], None]


def decode(
    path: str,
    formats: Sequence[AudioFormat],
    *,
    block_seconds: float = BLOCK_SECONDS,
    progress: Progress = lambda: None,
) -> Iterator[Block | AudioSummary]:
    """Decode a file once into all ``formats``: blocks in order, then the summary.

    A block holds about ``block_seconds`` of the file, full scale ±1 (lossy formats overshoot); memory does not grow
    with the file. Mono is mixed before it is resampled (soxr HQ): the blocks in a row equal ``librosa.load`` bit for
    bit where the codec is lossless. NaN and infinities become 0. ``progress`` is called for every packet.

    Raises:
        AudioFileMissing: there is no such file. Passing.
        AudioError: cannot be read now (rights, network share; passing), or it is no audio, too short or mostly
            damaged (permanent). Files are judged at their end: blocks may have been yielded before.
    """
    if any(wanted.channels not in (1, 2) for wanted in formats):
        raise ValueError(f"only mono and stereo can be asked for, not {formats}")
    with _opened(path, progress) as source:
        yield from _blocks(source, formats, block_seconds, progress)
    summary, verdict = source.summary(), source.verdict()
    if verdict or source.errors or summary.ratio < COMPLETE:
        _read_through(path, progress)
    if verdict:
        raise AudioError(verdict)
    yield summary


def audio_hash(path: str, *, progress: Progress = lambda: None) -> str:
    """SHA-256 (hex) over codec name, rate, channels and the packets of the audio stream; nothing is decoded.

    It stays the same when tags are edited. Raises as ``decode`` does, but judges no audio.
    """
    with _opened(path, progress) as source:
        for _ in source.packets():
            progress()
    if source.errors:
        _read_through(path, progress)
    return source.digest.hexdigest()


class _Source:
    """An open file's audio stream, and what has come out of it so far."""

    def __init__(self, container: Any, stream: Any) -> None:
        context = stream.codec_context
        self._container = container
        self._stream = stream
        self._codec: str = context.codec.canonical_name
        self._declared_seconds = _declared_seconds(container, stream)
        self.digest = hashlib.sha256(f"{self._codec} {context.rate} {context.channels}\n".encode())
        self.rate = 0
        self.speakers: list[str] = []
        self._packer: Any = None
        self.errors = 0
        self._frames = 0
        self._samples = 0
        self._not_numbers = 0

    def packets(self) -> Iterator[Any]:
        """The stream's packets, hashed, then None, which drains the decoder."""
        failures = 0
        demuxed = self._container.demux(self._stream)
        while failures < _DEMUX_ERRORS:
            try:
                packet = next(demuxed, None)
            except (av.FFmpegError, OSError):
                self.errors += 1
                failures += 1
                demuxed = self._container.demux(self._stream)
                continue
            if packet is None or packet.size == 0:
                break
            failures = 0
            self.digest.update(packet)
            yield packet
        yield None

    def frames(self, progress: Progress) -> Iterator[Any]:
        """Decoded frames that have the first one's format."""
        expected = None
        for packet in self.packets():
            progress()
            try:
                frames = self._stream.codec_context.decode(packet)
            except (av.FFmpegError, OSError, ValueError):
                self.errors += 1
                continue
            for frame in frames:
                shape = (frame.sample_rate, frame.layout.name, frame.format.name)
                if expected is None:
                    self._accept(frame)
                    expected = shape
                if shape != expected:
                    self.errors += 1
                    continue
                self._frames += 1
                self._samples += frame.samples
                yield frame

    def waveforms(self, progress: Progress) -> Iterator[Waveform]:
        """float32 [channels, about _CHUNK samples] at the source's rate."""
        arrays: list[Any] = []
        waiting = 0
        for frame in self.frames(progress):
            arrays.append(self._array(frame))
            waiting += frame.samples
            if waiting >= _CHUNK:
                yield self._joined(arrays)
                arrays, waiting = [], 0
        if arrays:
            yield self._joined(arrays)

    def summary(self) -> AudioSummary:
        return AudioSummary(
            audio_seconds=self._samples / self.rate if self.rate else 0.0,
            declared_seconds=self._declared_seconds,
            errors=self.errors,
            audio_hash=self.digest.hexdigest(),
            codec=self._codec,
            sample_rate=self.rate,
            channels=len(self.speakers),
        )

    def verdict(self) -> str:
        """Why the file is refused; empty when it is not."""
        if self._samples == 0:
            return f"no audio could be decoded ({self.errors} damaged packets)"
        if self.errors > self._frames:
            return f"mostly damaged: {self.errors} of {self.errors + self._frames} packets could not be decoded"
        if self._not_numbers * 2 > self._samples * len(self.speakers):
            return "mostly damaged: most samples are not numbers"
        if self._samples < SHORTEST_SECONDS * self.rate:
            return f"only {self._samples / self.rate:.2f} s of audio; at least {SHORTEST_SECONDS:g} s is needed"
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
        if samples.dtype.kind == "f":
            self._not_numbers += sanitise(waveform)
        return waveform


def _blocks(
    source: _Source, formats: Sequence[AudioFormat], block_seconds: float, progress: Progress
) -> Iterator[Block]:
    tracks: dict[AudioFormat, Track] = {}
    ready = 0
    for waveform in source.waveforms(progress):
        tracks = tracks or {wanted: Track(wanted, source.rate) for wanted in formats}
        for track in tracks.values():
            track.push(waveform, source.speakers)
        ready += waveform.shape[1]
        if ready >= block_seconds * source.rate:
            yield {wanted: track.take() for wanted, track in tracks.items()}
            ready = 0
    for track in tracks.values():
        track.finish()
    rest = {wanted: track.take() for wanted, track in tracks.items()}
    if any(waveform.size for waveform in rest.values()):
        yield rest


@contextmanager
def _opened(path: str, progress: Progress) -> Iterator[_Source]:
    _look_at(path)
    try:
        # "file:" keeps a name like "concat:x" a name; the whitelist keeps playlists named .mp3 off the network.
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (av.FFmpegError, OSError, ValueError) as error:
        _read_through(path, progress)
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
        yield _Source(container, stream)


def _declared_seconds(container: Any, stream: Any) -> float:
    seconds = (container.duration or 0) / av.time_base
    if stream.duration:
        seconds = stream.duration * stream.time_base
    return max(0.0, float(seconds))


@contextmanager
def _storage() -> Iterator[None]:
    """Errors of the file system say nothing about the file, so they are passing."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioFileMissing(f"no such file: {error.filename}") from error
    except OSError as error:
        raise FileUnreachable(f"cannot be read now: {error.strerror}") from error


def _look_at(path: str) -> None:
    with _storage():
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError("is a folder")
        if not stat.S_ISREG(mode):
            raise AudioError("is not a regular file")  # opening a pipe would wait for ever
        with Path(path).open("rb", buffering=0) as file:
            if not file.read(1):
                raise AudioError("the file is empty")


def _read_through(path: str, progress: Progress) -> None:
    """Raise if the storage fails: FFmpeg reports lost blocks like damage, or as the file's end."""
    with _storage(), Path(path).open("rb", buffering=0) as file:
        while file.read(1 << 20):
            progress()
