"""Real audio for tests: synthesised, encoded, and damaged in the ways of a music library."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from navembed_site.demo.encode import write_audio, write_blocks

DSD_RATE = 2_822_400


def tone(seconds: float, sample_rate: int = 44_100, channels: int = 2, *, seed: int = 0) -> NDArray[np.float32]:
    """float32 [channels, samples]: gliding tones and a little noise, another piece for every ``seed``."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    waveform = 0.01 * rng.standard_normal((channels, len(time)))
    for _ in range(4):
        pitch, glide, speed = rng.uniform(110, 1_200), rng.uniform(5, 60), rng.uniform(0.2, 2)
        phase = 2 * np.pi * (pitch * time + glide * np.sin(speed * time))
        waveform += rng.uniform(0.05, 0.2, (channels, 1)) * np.sin(phase)
    return waveform.astype(np.float32)


def write_long(path: Path, hours: float, sample_rate: int = 8_000) -> None:
    """A mono file of hours, made of the same minute: quick to write, and never whole in memory."""
    minute = tone(60, sample_rate, 1)
    write_blocks(path, (minute for _ in range(round(hours * 60))), sample_rate)


def write_dsf(path: Path, waveform: NDArray[np.float32], sample_rate: int) -> None:
    """DSD64 stereo, which FFmpeg only reads: first-order sigma-delta, after Sony's DSF specification 1.01."""
    count = round(waveform.shape[1] * DSD_RATE / sample_rate)
    block = 4_096
    planes = []
    for channel in np.broadcast_to(waveform, (2, waveform.shape[1])):
        dense = np.interp(np.arange(count) * (sample_rate / DSD_RATE), np.arange(len(channel)), channel)
        ones = np.diff(np.floor(np.cumsum((dense + 1) / 2)), prepend=0).astype(np.uint8)
        packed = np.packbits(ones, bitorder="little")
        planes.append(np.pad(packed, (0, -len(packed) % block)).reshape(-1, block))
    data = np.stack(planes, axis=1).tobytes()
    form = struct.pack("<4sQIIIIIIQII", b"fmt ", 52, 1, 0, 2, 2, DSD_RATE, 1, count, block, 0)
    body = form + struct.pack("<4sQ", b"data", 12 + len(data)) + data
    path.write_bytes(struct.pack("<4sQQQ", b"DSD ", 28, 28 + len(body), 0) + body)


def write_greedy(path: Path) -> None:
    """A Monkey's Audio of 4 kB whose one frame says that it holds 268 million samples, for which memory is taken."""
    header = struct.pack("<4sHHHHIIIII", b"MAC ", 3920, 1000, 32, 2, 44_100, 0, 0, 1, 2**28 - 9)
    path.write_bytes(header + struct.pack("<I", len(header) + 4) + b"U" * 4_096)


@dataclass(frozen=True)
class Damage:
    """A kind of damaged file. ``refused``: words of the reason; empty when what is left of it is accepted."""

    suffix: str
    write: Callable[[Path], None]
    refused: str = ""

    def make(self, folder: Path) -> Path:
        path = folder / f"damaged{self.suffix}"
        self.write(path)
        return path


@cache
def _whole(suffixes: str, seconds: float) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"whole{suffixes}")
        write_audio(path, tone(seconds), 44_100, tags={"title": "ÄÖÜ"})
        return path.read_bytes()


def _edited(edit: Callable[[bytes], bytes], seconds: float = 12) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(edit(_whole("".join(path.suffixes), seconds)))

    return write


def _noise(size: int) -> bytes:
    return np.random.default_rng(1).bytes(size)


def _overwrite_middle(data: bytes) -> bytes:
    start, size = len(data) // 2, len(data) // 40
    return data[:start] + _noise(size) + data[start + size :]


def _lose_middle(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) * 3 // 4 :]


def _lose_tenth(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) * 6 // 10 :]


def _without_end(data: bytes) -> bytes:
    """A WAV written to a pipe, which cannot know its size."""
    start = data.find(b"data")
    return data[:4] + b"\xff\xff\xff\x7f" + data[8 : start + 4] + b"\xff\xff\xff\x7f" + data[start + 8 :]


def _preallocated(data: bytes) -> bytes:
    return data[: len(data) // 10] + bytes(len(data) - len(data) // 10)


def _constant(path: Path) -> None:
    write_audio(path, np.full((2, 200_000), 0.5, np.float32), 44_100)


def _ten_hours_mp3(data: bytes) -> bytes:
    frames = max(data.find(b"Xing"), data.find(b"Info")) + 8
    return data[:frames] + struct.pack(">I", 10 * 3_600 * 44_100 // 1_152) + data[frames + 4 :]


def _ten_hours_flac(data: bytes) -> bytes:
    return data[:22] + struct.pack(">I", 10 * 3_600 * 44_100) + data[26:]


def _hundred_channels(data: bytes) -> bytes:
    return data[:22] + struct.pack("<H", 100) + data[24:32] + struct.pack("<H", 200) + data[34:]


def _not_a_number(path: Path) -> None:
    import soundfile

    waveform = tone(3)
    waveform[:, 100::3] = np.nan
    waveform[:, 101::300] = np.inf
    waveform[:, 102::300] = -3e38
    soundfile.write(path, waveform.T, 44_100, subtype="FLOAT")


def _only_video(path: Path) -> None:
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=25, width=64, height=64)
        for _ in range(25):
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        output.mux(stream.encode(None))


DAMAGED: dict[str, Damage] = {
    "random bytes": Damage(".mp3", lambda path: _drop(path, _noise(100_000)), "mostly damaged"),
    "7 Hz": Damage(".wav", _edited(lambda data: data[:24] + struct.pack("<I", 7) + data[28:]), "7 Hz"),
    "100 channels": Damage(".wav", _edited(_hundred_channels), "100 channels"),
    "text": Damage(".mp3", lambda path: _drop(path, b"This is no music.\n" * 500), "not a readable audio file"),
    "empty": Damage(".flac", lambda path: _drop(path, b""), "empty"),
    "zeros": Damage(".mp3", lambda path: _drop(path, bytes(100_000)), "no sample rate and no channels"),
    "half a second": Damage(".flac", _edited(lambda data: data, 0.5), "only 0.50 s"),
    "header only": Damage(".flac", _edited(lambda data: data[:8_000]), "not a readable audio file"),
    "no index": Damage(".m4a", _edited(lambda data: data[: len(data) // 2]), "not a readable audio file"),
    "only video": Damage(".mp4", _only_video, "no audio stream"),
    "truncated mp3": Damage(".mp3", _edited(lambda data: data[: len(data) // 2]), r"only [56]\S* of 12 s"),
    "truncated flac": Damage(".flac", _edited(lambda data: data[: len(data) // 2]), r"only [56]\S* of 12 s"),
    "truncated wav": Damage(".wav", _edited(lambda data: data[: len(data) // 2]), r"only [56]\S* of 12 s"),
    "corrupt middle mp3": Damage(".mp3", _edited(_overwrite_middle)),
    "corrupt middle flac": Damage(".flac", _edited(_overwrite_middle)),
    "corrupt middle aac": Damage(".m4a", _edited(_overwrite_middle)),
    "corrupt middle vorbis": Damage(".ogg", _edited(_overwrite_middle)),
    "lost middle flac": Damage(".flac", _edited(_lose_middle), "only 9 of 12 s could be decoded"),
    "lost tenth flac": Damage(".flac", _edited(_lose_tenth)),
    "preallocated flac": Damage(".flac", _edited(_preallocated), r"only 1\S* of 12 s could be decoded"),
    "preallocated mp3": Damage(".mp3", _edited(_preallocated), r"only 1\S* of 12 s could be decoded|mostly damaged"),
    "without end wav": Damage(".wav", _edited(_without_end)),
    "silence": Damage(".wav", lambda path: write_audio(path, np.zeros((2, 99_000), np.float32), 44_100), "no sound"),
    "constant wav": Damage(".wav", _constant, "no sound"),
    "constant mp3": Damage(".mp3", _constant, "no sound"),
    "constant m4a": Damage(".m4a", _constant, "no sound"),
    "constant opus": Damage(".opus", _constant, "no sound"),
    "raw speech": Damage(".g722", lambda path: _drop(path, b"This is no music.\n" * 500), "not a readable audio file"),
    "playlist": Damage(".mp3", lambda path: _drop(path, b"#EXTM3U\n#EXTINF:9,\n/etc/hostname\n"), "not a readable"),
    "concatenation": Damage(".flac", lambda path: _drop(path, b"ffconcat version 1.0\nfile x\n"), "not a readable"),
    "ten hours mp3": Damage(".mp3", _edited(_ten_hours_mp3)),
    "ten hours flac": Damage(".flac", _edited(_ten_hours_flac)),
    "latin-1 tags": Damage(".flac", _edited(lambda data: data.replace("ÄÖÜ".encode(), b"\xc4 \xd6 \xdc "))),
    "latin-1 tags mp4": Damage(".m4a", _edited(lambda data: data.replace("ÄÖÜ".encode(), b"\xc4 \xd6 \xdc "))),
    "not a number": Damage(".wav", _not_a_number),
}
"""By name; ``DAMAGED[name].make(folder)`` writes one."""


def _drop(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def damaged_files(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Write all of them: name, path, words of the reason why it is refused ("" when it is accepted)."""
    for name, damage in DAMAGED.items():
        (folder / name).mkdir()
        yield name, damage.make(folder / name), damage.refused
