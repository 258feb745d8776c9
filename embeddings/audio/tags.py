"""What a file's tags say, in any format that mutagen reads. Foreign data: only processes with limits call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import mutagen
from mutagen.flac import FLAC, Picture

from navembed_site.names import LONGEST_TEXT

MOST_VALUES = 100
MOST_SHEET = 2**20  # characters
LEAD_OUT = (170, 255)  # numbers of what is no track in a sheet's block
FRAMES = 75  # of a CUE sheet, a second
# Names of a field: Vorbis and APE, ID3, MP4, ASF.
FIELDS = {
    "title": ("title", "tit2", "\xa9nam"),
    "artist": ("artist", "tpe1", "\xa9art", "author"),
    "album": ("album", "talb", "\xa9alb", "wm/albumtitle"),
    "album_artist": ("albumartist", "album artist", "tpe2", "aart", "wm/albumartist"),
    "date": ("date", "year", "tdrc", "\xa9day", "wm/year"),
    "genre": ("genre", "tcon", "\xa9gen", "wm/genre"),
}
SHEETS = ("cuesheet", "txxx:cuesheet")


def texts(file: mutagen.FileType, fields: Sequence[str] = tuple(FIELDS)) -> dict[str, str]:
    """Return these fields; one that is absent is empty, several values are joined by commas."""
    tags = _lower(file)
    return {field: _text(tags, FIELDS[field]) for field in fields}


def read(path: str) -> dict[str, Any]:
    """Return all texts, ``sheet``, a CUE sheet in the tags, and ``block``, that of a FLAC's metadata.

    The latter is [number, is it audio, {index: frames of 1/75 s}] for each track, the frames as a fraction.
    """
    file = mutagen.File(path)
    if file is None:
        return {**dict.fromkeys(FIELDS, ""), "sheet": "", "block": []}
    tags = _lower(file)
    sheet = next((str(_values(tags[name])[0]) for name in SHEETS if _values(tags.get(name))), "")
    return {**texts(file), "sheet": sheet[:MOST_SHEET], "block": _block(file)}


def cover(path: str) -> Picture | None:
    """Return the file's first picture."""
    file = mutagen.File(path)
    if file is None:
        return None
    if pictures := getattr(file, "pictures", None):
        found: Picture = pictures[0]
        return found
    for name, value in (file.tags or {}).items():
        if str(name).startswith("APIC"):
            return _picture(value.data, value.mime)
        if name == "covr" and value:
            return _picture(bytes(value[0]), "image/png" if value[0].imageformat == 14 else "image/jpeg")
    return None


def write(path: str, fields: Mapping[str, str], picture: Picture | None) -> None:
    """Write Vorbis comments, those that say something, and a picture into a FLAC."""
    file = FLAC(path)
    for name, value in fields.items():
        if value:
            file[name] = value
    if picture is not None:
        file.add_picture(picture)
    file.save()


def _picture(data: bytes, mime: str) -> Picture:
    picture = Picture()
    picture.data, picture.mime, picture.type = data, mime, 3  # the front cover
    return picture


def _lower(file: mutagen.FileType) -> dict[str, Any]:
    return {str(name).lower(): value for name, value in (file.tags or {}).items()}


def _values(value: Any) -> list[Any]:
    values = getattr(value, "text", value)
    if isinstance(values, list):
        return values[:MOST_VALUES]
    return [] if values is None else [values]


def _text(tags: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the first field present."""
    for name in names:
        parts = [str(part)[:LONGEST_TEXT].strip() for part in _values(tags.get(name))]
        if text := ", ".join(dict.fromkeys(filter(None, parts))):  # FFmpeg writes WMA's artist twice
            return text[:LONGEST_TEXT]
    return ""


def _block(file: mutagen.FileType) -> list[tuple[int, bool, dict[str, str]]]:
    sheet = getattr(file, "cuesheet", None)
    if sheet is None or not file.info.sample_rate:
        return []
    scale = Fraction(FRAMES, file.info.sample_rate)
    return [
        (
            track.track_number,
            track.type == 0,
            {str(each.index_number): str((track.start_offset + each.index_offset) * scale) for each in track.indexes},
        )
        for track in sheet.tracks
        if track.track_number not in LEAD_OUT
    ]
