"""Names that other programs and file systems give, as any database and the index can hold them, and as they were.

File names are bytes. What of them is no text is kept as private-use characters, one for each byte, so that the name
stays readable, can be turned back, and no other file can be meant by it: those characters themselves are kept as the
bytes that they are made of.
"""

from __future__ import annotations

import hashlib
import os
import re

ID_BYTES = 255
"""That an id may have in Milvus, and characters in our table."""

LONGEST_TEXT = 1000
"""Characters of a title, an artist, an album."""

_FIRST = 0x10FE00  # stands for byte 0
_ODD = re.compile("[\0\udc80-\udcff\U0010fe00-\U0010feff]")
_KEPT = re.compile("[\U0010fe00-\U0010feff]")


def storable(name: bytes) -> str:
    """Return a file's path, or another name, as text; ``original`` gives the bytes again."""
    return _ODD.sub(_keep, name.decode("utf-8", "surrogateescape"))


def original(text: str) -> bytes:
    """Return the bytes that ``storable`` was given."""
    return _KEPT.sub(_give_back, text).encode("utf-8", "surrogateescape")


def storable_id(name: bytes) -> str:
    """Return a track's id as our table can hold it; a shortened one still fails ``can_be_id``."""
    text = storable(name)
    if len(text) <= ID_BYTES:
        return text
    return f"{text[:150]}{chr(_FIRST)}{hashlib.sha256(name).hexdigest()}"


def can_be_id(track_id: str) -> bool:
    """Whether the index can hold this id: 1 to 255 bytes without control characters or lone surrogates."""
    return 0 < len(track_id.encode("utf-8", "replace")) <= ID_BYTES and track_id.isprintable()


def short_text(text: object) -> str:
    """Return a title or a name as it is stored and shown: no longer than any real one is."""
    return clean_text(text)[:LONGEST_TEXT]


def clean_text(text: object) -> str:
    """Return what is only shown as any database can store it: NUL becomes a space, what is no text ``?``."""
    shown = os.fsdecode(text) if isinstance(text, bytes) else "" if text is None else str(text)
    return shown.replace("\0", " ").encode("utf-8", "replace").decode("utf-8")


def _keep(odd: re.Match[str]) -> str:
    return "".join(chr(_FIRST + byte) for byte in odd[0].encode("utf-8", "surrogateescape"))


def _give_back(kept: re.Match[str]) -> str:
    byte = ord(kept[0]) - _FIRST
    return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
