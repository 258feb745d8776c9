"""Where music lies: our table keeps every path as one host sees it, others may see it elsewhere.

The host that first reads a library decides under which folder its paths are kept (``MusicFolder``). Every other host
translates, by what it knows of its own folders: from Navidrome's database where it has that, else from
``NAVEMBED_PATH_MAP`` and ``NAVIDROME_MUSIC_ROOT``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.models import MusicFolder
from navembed_site.names import original, storable
from navembed_site.process.host import host_key


@dataclass(frozen=True)
class Places:
    """Folders by library: ``kept`` as our table has them, ``here`` as they are on this host; each ``storable``."""

    kept: Mapping[int, str]
    here: Mapping[int, str]

    def file(self, path: str) -> str:
        """Return where a track of our table lies here, as the operating system knows it."""
        return os.fsdecode(original(self.path_here(path)))

    def path_here(self, path: str) -> str:
        """Return a path of our table as it is on this host."""
        return _moved(path, [(folder, self.here[number]) for number, folder in self.kept.items()])

    def path_kept(self, path: str) -> str:
        """Return a path on this host as our table keeps it."""
        return _moved(path, [(folder, self.kept.get(number, folder)) for number, folder in self.here.items()])


def places() -> Places:
    """Return where the music lies."""
    kept = dict(MusicFolder.objects.values_list("library_id", "path"))
    return Places(kept, kept | here())


def keep_places() -> Places:
    """Return where the music lies, and keep it where that is up to this host. Raises LibraryUnavailable."""
    folders = _storable(open_library().folders())
    rows = {row.library_id: row for row in MusicFolder.objects.all()}
    for number, folder in folders.items():
        row = rows.setdefault(number, MusicFolder(library_id=number, host=host_key()))
        if row.host == host_key() and row.path != folder:
            row.path = folder
            row.save()
    kept = {number: row.path for number, row in rows.items()}
    return Places(kept, kept | folders)


def here() -> dict[int, str]:
    """Return the folders of this host's own library, or of its settings."""
    try:
        return _storable(open_library().folders())
    except LibraryUnavailable:  # a host that only computes has no library
        root = settings.NAVIDROME_MUSIC_ROOT
        return _storable(({1: root} if root else {}) | settings.LIBRARY_PATH_MAP)


def _storable(folders: Mapping[int, Path]) -> dict[int, str]:
    return {number: storable(os.fsencode(folder)) for number, folder in folders.items()}


def _moved(path: str, folders: Iterable[tuple[str, str]]) -> str:
    """Return ``path`` with the longest of the folders that it lies in, (from, to), exchanged."""
    for old, new in sorted(folders, key=lambda pair: -len(pair[0])):
        if path.startswith(f"{old.rstrip('/')}/"):
            return f"{new.rstrip('/')}/{path.removeprefix(old).lstrip('/')}"
    return path
