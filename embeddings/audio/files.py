"""What a file is before it is decoded: its kind, its parts, and whether its declared length can be true."""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from embeddings.errors import AudioError, AudioFileMissing, FileUnreachable

DEMUXERS = (
    "aac,ac3,aiff,amr,ape,asf,au,caf,dsf,dts,dtshd,eac3,flac,iff,loas,matroska,mlp,mov,mp3,mpc,mpc8,mpeg,mpegts,"
    "ogg,oma,qcp,shn,tak,truehd,tta,voc,w64,wav,wv,xwma"
)
"""FFmpeg's names of the formats that we read. Others name further files (playlists), or take any text for speech."""

PROTOCOLS = "file,subfile"
"""Of which nothing but ``urls`` names the second one."""

# fmt: off
_STORED = {
    "aiff", "ape", "asf", "au", "caf", "dsf", "flac", "iff", "matroska", "mov", "mpc", "mpc8", "ogg", "shn", "tak",
    "tta", "w64", "wav", "wv",
}
# fmt: on
"""Formats that store a length; of the others FFmpeg guesses it from the first packets."""
_LEAST_BITS = 1_000
"""Per second: a file that is smaller for the length that it declares does not have that length."""
_PLACEHOLDER = 2**31 - 2**16
"""Bytes: programs that write a WAV to a pipe declare this or more, because they cannot know."""
_XING_REACH = 4_096
_FLAC_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # with the header of its first block
_MP3_BEGIN = re.compile(rb"\xff[\xe2-\xff]..\x00{9,34}(?:Xing|Info)", re.DOTALL)  # the silent frame with its length
_LONGEST_BEGIN = 42


def look_at(path: str) -> None:
    """Raise AudioError for what is no file with something in it."""
    with _storage():
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise AudioError("is a folder")
        if not stat.S_ISREG(mode):
            raise AudioError("is not a regular file")  # opening a pipe would wait for ever
        with Path(path).open("rb", buffering=0) as file:
            if not file.read(1):
                raise AudioError("the file is empty")


def read_through(path: str, progress: Callable[[], None]) -> None:
    """Raise if the storage fails: FFmpeg reports lost blocks like damage, or as the file's end."""
    with _storage(), Path(path).open("rb", buffering=0) as file:
        while file.read(1 << 20):
            progress()


def urls(path: str, progress: Callable[[], None]) -> list[str]:
    """What FFmpeg opens to read the whole file: its parts one by one where it is a chained Ogg, several FLACs or MP3s.

    FFmpeg itself gives up, mixes them up, or repeats a second of them, where the format changes, and hears the silence
    that encoders put around each MP3. ``file:`` keeps a name like "concat:x" a name.
    """
    with _storage(), Path(path).open("rb") as file:
        starts = _ogg_links(file) or _files_in_a_row(file, progress)
        size = file.seek(0, 2)
    if len(starts) < 2:
        return [f"file:{path}"]
    ends = [*starts[1:], size]
    return [f"subfile,,start,{a},end,{b},,:file:{path}" for a, b in zip(starts, ends, strict=True)]


def is_length_trustworthy(path: str, demuxer: str, seconds: float, byte_rate: float) -> bool:
    """Whether ``seconds``, declared by a file of this format, can be what was once in it.

    ``byte_rate`` is that of uncompressed audio, else 0.
    """
    size = Path(path).stat().st_size
    if seconds <= 0 or size * 8 < seconds * _LEAST_BITS or seconds * byte_rate > _PLACEHOLDER:
        return False
    return _has_whole_xing(path, size) if demuxer == "mp3" else not _STORED.isdisjoint(demuxer.split(","))


def cut_off(path: str) -> float:
    """How many times as long the file was, by the size in the header of a RIFF or AIFF; 1 when nothing is cut off.

    FFmpeg declares for these what is there.
    """
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        head = file.read(8)
    stated = 0
    if head[:4] in (b"RIFF", b"FORM") and len(head) == 8:
        stated = 8 + int.from_bytes(head[4:], "little" if head[:1] == b"R" else "big")
    return stated / size if size < stated < _PLACEHOLDER else 1.0


def _ogg_links(file: IO[bytes]) -> list[int]:
    """Where the links of a chained Ogg begin, by its pages (RFC 3533): where a stream begins after pages of data."""
    starts: list[int] = []
    position, in_data = 0, True
    while len(page := file.read(27)) == 27 and page.startswith(b"OggS"):
        begins = bool(page[5] & 2)
        if begins and in_data:
            starts.append(position)
        in_data = not begins
        position += 27 + page[26] + sum(file.read(page[26]))
        file.seek(position)
    return starts


def _files_in_a_row(file: IO[bytes], progress: Callable[[], None]) -> list[int]:
    """Where FLACs or MP3s begin that were written one after the other; empty when it is neither."""
    file.seek(0)
    head = file.read(10)
    begin = _FLAC_BEGIN if head.startswith(b"fLaC") else _MP3_BEGIN if head.startswith((b"ID3", b"\xff")) else None
    starts = {0}
    position, kept = 0, head
    while begin and (piece := file.read(1 << 20)):
        progress()
        kept += piece
        starts |= {position + found.start() for found in begin.finditer(kept)}
        position += len(kept) - _LONGEST_BEGIN
        kept = kept[-_LONGEST_BEGIN:]
    own = _id3_bytes(head) + _XING_REACH if begin == _MP3_BEGIN else 0
    return sorted(start for start in starts if not 0 < start <= own)


def _id3_bytes(head: bytes) -> int:
    """Return the length of the tag that a file begins with."""
    if not head.startswith(b"ID3") or len(head) < 10:
        return 0
    return 10 + sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))


def _has_whole_xing(path: str, size: int) -> bool:
    """Whether an MP3 has a header with its length, and is not longer than that says: it is not several in a row."""
    with Path(path).open("rb") as file:
        skipped = _id3_bytes(file.read(10))
        file.seek(skipped)
        head = file.read(_XING_REACH)
    found = max(head.find(b"Xing"), head.find(b"Info"))
    if found < 0 or len(head) < found + 16:
        return False
    flags, _, stated = struct.unpack(">III", head[found + 4 : found + 16])
    return bool(flags & 3 == 3 and size - skipped < stated * 1.1 + _XING_REACH)


@contextmanager
def _storage() -> Iterator[None]:
    """Errors of the file system say nothing about the file, so they are passing."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioFileMissing(f"no such file: {error.filename}") from error
    except OSError as error:
        raise FileUnreachable(f"cannot be read now: {error.strerror}") from error
