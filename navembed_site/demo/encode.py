"""Writes audio files in every format that PyAV can encode; no ffmpeg program is needed.

The demo library and the tests are made with it. Of the formats we decode, FFmpeg has no encoder for APE and
DSD.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK = 65_536  # samples handed to the encoder at a time
LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


@dataclass(frozen=True, slots=True)
class Format:
    """How a file of one suffix is written. ``bit_rate`` in bit/s (0: the codec decides)."""

    container: str
    codec: str
    lossless: bool = False
    bit_rate: int = 0
    channels: int = 0
    """The only number of channels that the encoder takes; mono is doubled. 0: any."""
    sample_format: str = ""
    """FFmpeg's name, where the codec has several."""
    options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)


FORMATS: dict[str, Format] = {
    ".mp3": Format("mp3", "libmp3lame", bit_rate=192_000),
    ".mp2": Format("mp2", "mp2", bit_rate=160_000),
    ".flac": Format("flac", "flac", lossless=True, sample_format="s16"),
    ".m4a": Format("ipod", "aac", bit_rate=192_000),
    ".alac.m4a": Format("ipod", "alac", lossless=True, sample_format="s16p"),
    ".aac": Format("adts", "aac", bit_rate=192_000),
    # FFmpeg's own Vorbis encoder calls itself experimental and knows only stereo.
    ".ogg": Format("ogg", "vorbis", bit_rate=192_000, channels=2, options={"strict": "experimental"}),
    ".opus": Format("opus", "libopus", bit_rate=128_000),
    ".wav": Format("wav", "pcm_s16le", lossless=True),
    ".aiff": Format("aiff", "pcm_s16be", lossless=True, container_options={"write_id3v2": "1"}),
    ".wma": Format("asf", "wmav2", bit_rate=192_000),
    ".wv": Format("wv", "wavpack", lossless=True, sample_format="s16p"),
    ".tta": Format("tta", "tta", lossless=True, sample_format="s16"),
    ".ac3": Format("ac3", "ac3", bit_rate=192_000),
    ".mka": Format("matroska", "flac", lossless=True, sample_format="s16"),
    ".caf": Format("caf", "pcm_s16be", lossless=True),
}
"""By suffix; a double suffix goes before its last part."""


def write_audio(
    path: Path, waveform: NDArray[np.float32], sample_rate: int, *, tags: Mapping[str, str] | None = None
) -> None:
    """Write ``waveform`` (float32 [channels, samples], full scale ±1) as the suffix of ``path`` says.

    A rate that the codec does not know is resampled to the nearest one above, and mono is doubled for a codec
    that only takes stereo. ``tags`` (title, artist, album…) go where the container keeps them, if it does.

    Raises:
        ValueError: unknown suffix, or a waveform of another shape.
    """
    if waveform.ndim != 2 or waveform.shape[0] == 0:
        raise ValueError(f"waveform has shape {waveform.shape}, not [channels, samples]")
    write_blocks(path, [waveform], sample_rate, tags=tags)


def write_blocks(
    path: Path,
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    *,
    tags: Mapping[str, str] | None = None,
) -> None:
    """``write_audio`` for audio that does not fit in memory: blocks [channels, samples], at least one."""
    import av

    wanted = format_of(path)
    rate = _rate(wanted, sample_rate)
    frames = _frames(_resampled(_widened(blocks, wanted.channels), sample_rate, rate), rate)
    first = next(frames)
    with av.open(str(path), "w", format=wanted.container, container_options=dict(wanted.container_options)) as output:
        output.metadata.update(tags or {})
        stream = output.add_stream(wanted.codec, rate=rate, layout=first.layout, options=dict(wanted.options))
        if wanted.bit_rate:
            stream.bit_rate = wanted.bit_rate
        if wanted.sample_format:
            stream.codec_context.format = wanted.sample_format
        for frame in itertools.chain([first], frames):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def format_of(path: Path) -> Format:
    """The format for a file's name; ``piece.alac.m4a`` is ALAC, ``piece.m4a`` AAC. Raises ValueError."""
    for suffix in ("".join(path.suffixes[-2:]).lower(), path.suffix.lower()):
        if suffix in FORMATS:
            return FORMATS[suffix]
    raise ValueError(f"{path.name}: no format for this suffix; known are {' '.join(FORMATS)}")


def _rate(wanted: Format, sample_rate: int) -> int:
    import av

    known: list[int] = sorted(av.Codec(wanted.codec, "w").audio_rates or [sample_rate])
    return next((rate for rate in known if rate >= sample_rate), known[-1])


def _widened(blocks: Iterable[NDArray[np.float32]], channels: int) -> Iterator[NDArray[np.float32]]:
    for block in blocks:
        yield block if channels in (0, block.shape[0]) else np.repeat(block[:1], channels, axis=0)


def _resampled(blocks: Iterable[NDArray[np.float32]], source_rate: int, rate: int) -> Iterator[NDArray[np.float32]]:
    import soxr

    if rate == source_rate:
        yield from blocks
        return
    blocks = iter(blocks)
    block = next(blocks)
    resampler = soxr.ResampleStream(source_rate, rate, block.shape[0], quality="HQ")
    for following in itertools.chain(blocks, [None]):
        yield resampler.resample_chunk(np.ascontiguousarray(block.T), last=following is None).T
        block = block if following is None else following


def _frames(blocks: Iterable[NDArray[np.float32]], rate: int) -> Iterator[Any]:
    import av

    position = 0
    for block in blocks:
        for start in range(0, block.shape[1], CHUNK):
            chunk = block[:, start : start + CHUNK].astype(np.float32)
            # Packed, not planar: PyAV 18.1 reads past the planes of a planar frame of 8 channels.
            packed = np.ascontiguousarray(chunk.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=LAYOUTS[len(chunk)])
            frame.sample_rate, frame.pts = rate, position
            position += chunk.shape[1]
            yield frame
