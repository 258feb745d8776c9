"""Whether a folder of music is there, or only the place where its disk belongs."""

from __future__ import annotations

import os
from pathlib import Path

LEFT_BY_DISKS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN", "#recycle", "@eaDir"})
"""What an empty disk, or the folder on which one is mounted, may hold."""


def is_there(root: Path) -> bool:
    """Whether ``root`` can be read and holds more than an empty disk does."""
    try:
        with os.scandir(root) as entries:
            return any(not entry.name.startswith(".") and entry.name not in LEFT_BY_DISKS for entry in entries)
    except OSError:
        return False


def is_place_there(file: str) -> bool:
    """Whether the folder of a file, or the deepest that is left of its path, is there.

    An empty one, or a link to nowhere, may be where a disk belongs that is a part of the library.
    """
    folder = Path(file).parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return is_there(folder)
