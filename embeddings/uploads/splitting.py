"""A file with a CUE sheet becomes its tracks: FLACs beside it, with tags, and with names that are free."""

from __future__ import annotations

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from django.conf import settings

from embeddings.audio.pool import DecodePool
from embeddings.audio.split import Cut
from embeddings.errors import AudioError
from embeddings.uploads import cue
from embeddings.uploads.cue import BadSheet, CueTrack, Part, Sheet
from embeddings.uploads.names import safe, take, unique
from embeddings.uploads.request import Request


@dataclass(frozen=True)
class Split:
    """A track that was cut out. ``name`` is where it is to lie below the music root."""

    path: Path
    name: str
    title: str
    artist: str
    album: str
    album_artist: str
    number: int
    seconds: float

    def as_answer(self) -> dict[str, Any]:
        return {
            "path": str(self.path),
            "destName": self.name,
            "title": self.title,
            "artist": self.artist or None,
            "album": self.album or None,
            "albumArtist": self.album_artist or None,
            "index": self.number,
            "durationSeconds": self.seconds,
        }


def plan(request: Request, decoders: DecodePool) -> list[tuple[Split, Cut]]:
    """Return what a file is to be split into by its sheet, or by the one in its tags; nothing when it is one track.

    Raises BadSheet when the sheet does not fit: the file is taken whole then.
    """
    tags = _tags(request.music_file, decoders)
    sheet = _sheet(request.cue_file, tags)
    parts = cue.parts_of(sheet, request.name) if sheet else []
    if sheet is None or not parts or (len(parts) == 1 and (parts[0].start, parts[0].end) == (0, None)):
        return []
    return _planned(request, sheet, parts, tags)


def split(
    request: Request, planned: list[tuple[Split, Cut]], decoders: DecodePool, should_stop: Callable[[], bool]
) -> list[Split]:
    """Write the tracks beside the file. Raises BadSheet when that cannot be done, and then leaves none."""
    try:
        lengths = decoders.split(str(request.music_file), [cut for _, cut in planned], should_stop=should_stop)
    except AudioError as error:
        raise BadSheet(f"{request.name} could not be split: {error}") from error
    return [replace(each, seconds=seconds) for (each, _), seconds in zip(planned, lengths, strict=True)]


def _tags(music_file: Path, decoders: DecodePool) -> Mapping[str, Any]:
    try:
        return decoders.tags(str(music_file))
    except AudioError:
        return {}


def _sheet(cue_file: Path | None, tags: Mapping[str, Any]) -> Sheet | None:
    if cue_file is not None:
        try:
            if not stat.S_ISREG(cue_file.stat().st_mode):
                raise BadSheet("the CUE sheet is not a file")  # opening a pipe would wait for ever
            with cue_file.open("rb") as file:
                return cue.parse(cue.decode(file.read(cue.MOST_BYTES + 1)))
        except OSError as error:
            raise BadSheet(f"the CUE sheet cannot be read: {error.strerror}") from error
    if text := tags.get("sheet"):
        return cue.parse(text)
    if block := tags.get("block"):
        return Sheet(tracks=[_track(*each) for each in block])
    return None


def _track(number: int, is_audio: bool, indexes: Mapping[str, str]) -> CueTrack:
    """Return a track of a FLAC's own sheet, whose times are samples."""
    return CueTrack(number, is_audio, indexes={int(each): (0, Fraction(at)) for each, at in indexes.items()})


def _planned(request: Request, sheet: Sheet, parts: list[Part], tags: Mapping[str, Any]) -> list[tuple[Split, Cut]]:
    """Return what each part is to become; the file's own tags fill in what the sheet does not say."""
    album = sheet.title or tags.get("album", "") or Path(request.name).stem
    album_artist = sheet.performer or tags.get("album_artist", "") or tags.get("artist", "")
    music_file = request.music_file
    used: set[str] = set()

    def is_free(found: str) -> bool:
        return found.casefold() not in used and take(found, request)

    planned = []
    for number, part in enumerate(parts, 1):
        track = part.track
        title = track.title or f"Track {track.number:02}"
        artist = track.performer or album_artist
        free = unique(_name(track.number, title, artist, album, album_artist), is_free)
        used.add(free.casefold())
        beside = unique(
            f"{music_file.stem}-track-{number:03}.flac", lambda found: not music_file.with_name(found).exists()
        )
        path = music_file.with_name(beside)
        fields = {
            "title": title,
            "artist": artist,
            "album": album,
            "albumartist": album_artist,
            "tracknumber": str(track.number),
            "tracktotal": str(len(parts)),
            "discnumber": str(sheet.disc or ""),
            "disctotal": str(sheet.discs or ""),
            "date": track.date or sheet.date or tags.get("date", ""),
            "genre": sheet.genre or tags.get("genre", ""),
        }
        end = None if part.end is None else str(part.end)
        cut = Cut(str(path), str(part.start), end, fields)
        planned.append((Split(path, free, title, artist, album, album_artist, track.number, 0.0), cut))
    return planned


def _name(number: int, title: str, artist: str, album: str, album_artist: str) -> str:
    owner, record = safe(album_artist or artist, "Unknown artist"), safe(album, "Unknown album")
    track = f"{number:02} - {safe(title, 'Untitled')}.flac"
    separator = "/" if settings.SPLIT_FOLDERS else " - "
    return f"{owner} - {record}{separator}{track}"
