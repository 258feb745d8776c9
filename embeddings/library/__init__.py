"""Where tracks come from: Navidrome's database, or a plain folder of music."""

from __future__ import annotations

from pathlib import Path

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import Library, LibraryTrack, PresentTrack

__all__ = ["Library", "LibraryTrack", "PresentTrack", "open_library"]


def open_library() -> Library:
    """Return the library that the settings choose. Cheap; nothing is read until its methods are called.

    Raises LibraryUnavailable, naming the variable, when the settings do not say where the library is.
    """
    from django.conf import settings

    music_root: Path | None = settings.NAVIDROME_MUSIC_ROOT
    database: Path | None = settings.NAVIDROME_DB_PATH
    if settings.LIBRARY == "folder":
        from embeddings.library.folder import FolderLibrary

        if music_root is None:
            raise LibraryUnavailable("NAVEMBED_LIBRARY is folder: set NAVIDROME_MUSIC_ROOT to your music.")
        return FolderLibrary(music_root)

    from embeddings.library.navidrome import NavidromeLibrary

    if database is None:
        raise LibraryUnavailable("Set NAVIDROME_DB_PATH to Navidrome's database, usually named navidrome.db.")
    return NavidromeLibrary(database, music_root=music_root, path_map=settings.LIBRARY_PATH_MAP)
