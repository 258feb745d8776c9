"""Names of files that every system takes, that lead nowhere else, and that nobody has yet."""

from __future__ import annotations

import math
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from django.db import DatabaseError, InterfaceError

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.library.places import places
from embeddings.models import Track
from embeddings.uploads.request import Request
from navembed_site.names import storable

LONGEST = 120  # bytes of a part: file systems take 255, and other things are added
FORBIDDEN = str.maketrans({**dict.fromkeys('<>|"*', "_"), ":": " -", "/": "-", "\\": "-", "?": ""})
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""That Windows keeps for its devices, whatever their suffix."""
COPY_SECONDS = 60.0  # after an answer, in which its sender copies

_taken: dict[str, tuple[Request, float]] = {}
"""By whom, and until when; for ever while that is being answered.

Each process has its own: a Navidrome, which copies into the music root, sends all its uploads to one.
"""
_taking = threading.Lock()


def safe(text: str, otherwise: str) -> str:
    """Return ``text`` as a part of a path on Linux, Windows and macOS; ``otherwise`` when nothing of it is left."""
    shown = unicodedata.normalize("NFC", text).translate(FORBIDDEN)
    shown = "".join(letter if letter.isprintable() else " " for letter in shown)
    shown = " ".join(shown.split()).encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore").strip(". ")
    if not shown:
        return otherwise
    return f"_{shown}" if shown.partition(".")[0].strip().casefold() in RESERVED else shown


def unique(name: str, is_free: Callable[[str], bool]) -> str:
    """Return ``name``, a path with a suffix, with a number where somebody has it already."""
    stem, dot, suffix = name.rpartition(".")
    number, found = 1, name
    while not is_free(found):
        number += 1
        found = f"{stem} ({number}){dot}{suffix}"
    return found


def take(name: str, owner: Request) -> bool:
    """Take a name for an upload, until ``let_go``; False where the library, or another upload, has it.

    A file that comes again under its own name, because its copying has failed, may have the name again.
    """
    if is_in_library(name):
        return False
    now, folded = time.monotonic(), _folded(name)
    with _taking:
        for old in [each for each, (_, until) in _taken.items() if until <= now]:
            del _taken[old]
        other, until = _taken.get(folded, (owner, math.inf))
        if other is not owner and (until == math.inf or other.name != owner.name):
            return False
        _taken[folded] = (owner, math.inf)
        return True


def let_go(owner: Request) -> None:
    """The upload has been answered; soon what it has taken lies in the library, or never."""
    with _taking:
        for name in [each for each, (other, _) in _taken.items() if other is owner]:
            _taken[name] = (owner, time.monotonic() + COPY_SECONDS)


def is_in_library(name: str) -> bool:
    """Whether the music root has a file of this name, in capitals or not, as the disk and the last scan say.

    No where neither can tell.
    """
    try:
        folders = [*open_library().folders().values()][:1]
        kept = [places().path_kept(storable(bytes(folder / name))) for folder in folders]
        return any(_is_on_disk(str(folder), name) for folder in folders) or any(_is_known(path) for path in kept)
    except (LibraryUnavailable, DatabaseError, InterfaceError):
        return False


def _is_on_disk(folder: str, name: str) -> bool:
    first, _, rest = name.partition("/")
    try:
        found = _listed(folder, Path(folder).stat().st_mtime_ns).get(_folded(first), ())
    except OSError:
        return False
    return any(not rest or _is_on_disk(f"{folder}/{each}", rest) for each in found)


@lru_cache(maxsize=2)
def _listed(folder: str, changed_at: int) -> Mapping[str, Sequence[str]]:
    """Return the names in a folder by what is the same to Windows and macOS."""
    found: dict[str, list[str]] = {}
    for path in Path(folder).iterdir():
        found.setdefault(_folded(path.name), []).append(path.name)
    return found


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_known(path: str) -> bool:
    return Track.objects.filter(path__iexact=path).exists()
