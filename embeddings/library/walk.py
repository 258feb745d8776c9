"""Which files below a folder are audio, by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

# fmt: off
SUFFIXES = (
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".alac", ".ape", ".au", ".caf", ".dff", ".dsf", ".flac", ".m4a",
    ".m4b", ".mka", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".shn", ".spx", ".tak", ".tta", ".w64",
    ".wav", ".weba", ".webm", ".wma", ".wv",
)
# fmt: on

Tell = Callable[[str], None]


def audio_files(root: str, path_prefix: str, entering: Tell, left_out: Tell) -> Iterator[str]:
    """Yield the audio files below ``root``, each folder once; none whose path cannot begin so.

    Hidden files and folders are skipped. Linked folders come after all real ones, by name: a folder's path must not
    depend on the order in which a disk lists its entries. ``entering`` is called with each folder before it is read,
    ``left_out`` with a sentence about one that may not be. Raises OSError when a folder cannot be read otherwise: a
    disk that fails half-way must not look like a library that has lost its tracks.
    """
    seen: set[tuple[int, int]] = set()
    real, linked = [root], list[str]()
    while real or linked:
        if not real:
            linked.sort(reverse=True)
            real.append(linked.pop())
        folder = real.pop()
        entering(folder)
        try:
            entries = _entries(folder, seen)
        except (PermissionError, FileNotFoundError) as error:
            if folder == root:
                raise
            left_out(f"Folder {folder} is left out: {error.strerror}.")
            continue
        for entry in entries:
            if not (entry.path.startswith(path_prefix) or path_prefix.startswith(f"{entry.path}/")):
                continue
            # Only links cost a look at the disk, and one that leads to itself must not raise.
            if entry.is_dir(follow_symlinks=False):
                real.append(entry.path)
            elif entry.is_symlink() and Path(entry.path).is_dir():
                linked.append(entry.path)
            elif entry.name.lower().endswith(SUFFIXES):
                yield entry.path


def _entries(folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
    """Return what is not hidden in ``folder``; nothing if it has been seen already."""
    status = Path(folder).stat()
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]
