"""Names of files that every system takes, that lead nowhere else, and that nobody has yet."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from django.db import DatabaseError, InterfaceError

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.library.places import places
from embeddings.models import Track
from navembed_site.names import storable

LONGEST = 120  # bytes of a part: file systems take 255, and other things are added
FORBIDDEN = str.maketrans({**dict.fromkeys('<>|"*', "_"), ":": " -", "/": "-", "\\": "-", "?": ""})
RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""That Windows keeps for its devices, whatever their suffix."""


def safe(text: str, otherwise: str) -> str:
    """Return ``text`` as a part of a path on Linux, Windows and macOS; ``otherwise`` when nothing of it is left."""
    shown = unicodedata.normalize("NFC", text).translate(FORBIDDEN)
    shown = "".join(letter if letter.isprintable() else " " for letter in shown)
    shown = " ".join(shown.split()).encode("utf-8", "ignore")[:LONGEST].decode("utf-8", "ignore").strip(". ")
    if not shown:
        return otherwise
    return f"_{shown}" if shown.partition(".")[0].strip().casefold() in RESERVED else shown


def unique(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return ``name``, a path with a suffix, with a number where somebody has it already."""
    stem, dot, suffix = name.rpartition(".")
    number, found = 1, name
    while is_taken(found):
        number += 1
        found = f"{stem} ({number}){dot}{suffix}"
    return found


def is_in_library(name: str) -> bool:
    """Whether the music root has a file of this name, as the disk and the last scan say; no where neither can tell."""
    try:
        paths = [root / name for root in [*open_library().folders().values()][:1]]
        kept = [places().path_kept(storable(bytes(path))) for path in paths]
        return any(path.exists() for path in paths) or _is_known(kept)
    except (LibraryUnavailable, DatabaseError, InterfaceError, OSError):
        return False


def _is_known(paths: list[str]) -> bool:
    return Track.objects.filter(path__in=paths).exists()
