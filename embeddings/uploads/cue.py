"""CUE sheets as people have them: which part of which file is which track.

The keywords are those of the CDRWIN manual, which is as near to a standard as there is.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import PurePosixPath

from embeddings.errors import BadUpload

MOST_BYTES = 2**20  # of a sheet
ENCODINGS = ["cp932", "gb18030", "cp1251", "cp1252"]
"""That old programs wrote: of Japanese, Chinese, Russian and Western Windows."""
FRAMES = 75
FILE_TYPES = {"wave", "wav", "mp3", "aiff", "binary", "motorola", "flac", "ape", "wv", "wavpack", "tta", "ogg", "m4a"}
MOST_TRACKS = 999
_TIME = re.compile(r"(\d{1,5}):(\d{1,2})(?:[:.](\d{1,2}))?")
_DIGITS = re.compile(r"\d+")

Frames = int | Fraction
"""Of 1/75 s; sheets within a FLAC count samples, which may lie between two of them."""


class BadSheet(BadUpload):
    """A sheet by which nothing can be split; the file is taken whole."""


@dataclass
class CueTrack:
    number: int
    is_audio: bool = True
    title: str = ""
    performer: str = ""
    date: str = ""
    indexes: dict[int, tuple[int, Frames]] = field(default_factory=dict)
    """Number of an INDEX → place of its file in the sheet, and its time."""

    @property
    def start(self) -> tuple[int, Frames] | None:
        """File and frame at which it begins to play: INDEX 01, or the only one that it has."""
        return self.indexes.get(1) or (self.indexes[min(self.indexes)] if self.indexes else None)


@dataclass
class Sheet:
    title: str = ""
    performer: str = ""
    genre: str = ""
    date: str = ""
    disc: int = 0
    discs: int = 0
    """0: not said."""
    files: list[str] = field(default_factory=list)
    tracks: list[CueTrack] = field(default_factory=list)


@dataclass(frozen=True)
class Part:
    """A track's part of a file. ``end`` None is the file's end."""

    track: CueTrack
    start: Frames
    end: Frames | None


def decode(data: bytes) -> str:
    """Return a sheet's text, whatever wrote it. Raises BadSheet."""
    if len(data) > MOST_BYTES:
        raise BadSheet(f"the CUE sheet has {len(data):,} bytes, which none has")
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if data[1:2] == b"\0" or data[:1] == b"\0":  # sheets begin with a keyword
        return data.decode("utf-16-le" if data[1:2] == b"\0" else "utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return _guessed(data)


def _guessed(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data, cp_isolation=ENCODINGS).best()
    return str(best) if best else data.decode("cp1252", "replace")


def parse(text: str) -> Sheet:
    """Return what a sheet says; lines that make no sense are left out. Raises BadSheet when there are no tracks."""
    sheet = Sheet()
    track: CueTrack | None = None
    place = 0
    for keyword, rest in _lines(text):
        match keyword:
            case "FILE":
                place = _add_file(sheet, _file_name(rest))
            case "TRACK" if len(sheet.tracks) < MOST_TRACKS:
                track = _track(rest, len(sheet.tracks) + 1)
                sheet.tracks.append(track)
            case "INDEX" if track:
                _add_index(track, rest, place)
            case "REM":
                _add_remark(sheet, track, rest)
            case "TITLE" | "PERFORMER":
                setattr(track or sheet, keyword.lower(), _text(rest))
    if not any(each.start for each in sheet.tracks):
        raise BadSheet("the CUE sheet names no track with a beginning")
    return sheet


def parts_of(sheet: Sheet, name: str) -> list[Part]:
    """Return the parts of the file that was called ``name``, in order. Raises BadSheet when the sheet is not its.

    A track begins at its INDEX 01: what lies before it, the gap, ends the track before. What lies before the first
    track belongs to it, so that nothing is lost. Data tracks are left out.
    """
    place = _place(sheet, name)
    starts = [(each, each.start[1]) for each in sheet.tracks if each.start and each.start[0] == place]
    frames = [start for _, start in starts]
    if not starts:
        raise BadSheet(f"the CUE sheet has no track in {name}")
    if any(one >= other for one, other in itertools.pairwise(frames)):
        raise BadSheet("the tracks of the CUE sheet do not follow each other in time")
    ends = [*(_end(*start, place, former) for (_, former), start in itertools.pairwise(starts)), None]
    parts = [Part(track, start, end) for (track, start), end in zip(starts, ends, strict=True) if track.is_audio]
    if parts and parts[0].track is starts[0][0]:
        parts[0] = Part(parts[0].track, 0, parts[0].end)
    return parts


def _end(following: CueTrack, start: Frames, place: int, begin: Frames) -> Frames:
    """Return where a track that has this ``begin`` ends: where the next one begins, with its gap if that is data."""
    if following.is_audio:
        return start
    return min(frame for at, frame in following.indexes.values() if at == place and frame > begin)


def _place(sheet: Sheet, name: str) -> int:
    """Return which of the sheet's files is called ``name``, whatever its format is now."""
    used = {each.start[0] for each in sheet.tracks if each.start}
    if len(sheet.files) <= 1 or len(used) == 1:
        return min(used)
    wanted = _stem(name)
    if wanted in (found := [_stem(each) for each in sheet.files]):
        return found.index(wanted)
    raise BadSheet(f"the CUE sheet is for {len(sheet.files)} other files, none is called {name}")


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem.strip().casefold()


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield keyword and rest of each line; other programs' line ends, and zeros at the end, are no reason to fail."""
    for line in re.split(r"\r\n|\r|\n", text.replace("\0", "").lstrip("\ufeff")):
        keyword, _, rest = line.strip().replace("\t", " ").partition(" ")
        if keyword:
            yield keyword.upper(), rest.strip()


def _text(rest: str) -> str:
    """Return what stands in quotes, which may be missing at either end, or be part of the text."""
    return " ".join(rest.removeprefix('"').removesuffix('"').split())


def _file_name(rest: str) -> str:
    if rest.startswith('"') and rest.rfind('"') > 0:
        return rest[1 : rest.rfind('"')]
    name, _, kind = rest.rpartition(" ")
    return (name if name and kind.lower() in FILE_TYPES else rest).strip('" ')


def _add_file(sheet: Sheet, name: str) -> int:
    """Return the file's place; some programs name it before each of its tracks."""
    known = [each.casefold() for each in sheet.files]
    if name.casefold() in known:
        return known.index(name.casefold())
    sheet.files.append(name)
    return len(known)


def _track(rest: str, position: int) -> CueTrack:
    digits, kind = _DIGITS.match(rest), rest.upper().split()[1:]
    number = int(digits[0][:4]) if digits else 0
    return CueTrack(number or position, is_audio=not kind or kind[0].strip('"') == "AUDIO")


def _add_index(track: CueTrack, rest: str, place: int) -> None:
    number, _, time = rest.partition(" ")
    found = _TIME.search(time)
    if found and number.isdecimal():
        minutes, seconds, frames = (int(each or 0) for each in found.groups())
        track.indexes.setdefault(int(number[:4]), (place, (minutes * 60 + seconds) * FRAMES + frames))


def _add_remark(sheet: Sheet, track: CueTrack | None, rest: str) -> None:
    name, _, value = rest.partition(" ")
    value = _text(value.strip())
    match name.upper().rstrip(":"):
        case "GENRE":
            sheet.genre = sheet.genre or value
        case "DATE" | "YEAR":
            target = track or sheet
            target.date = target.date or value
        case "DISCNUMBER" | "DISC":
            sheet.disc = _number(value)
            sheet.discs = sheet.discs or _number(value.partition("/")[2])
        case "TOTALDISCS" | "DISCTOTAL":
            sheet.discs = _number(value)


def _number(text: str) -> int:
    digits = _DIGITS.search(text)
    return int(digits[0][:4]) if digits else 0
