"""Where tracks come from: Navidrome's database, a server that speaks the Subsonic API, or a plain folder of music."""

from __future__ import annotations

from pathlib import Path

from embeddings.errors import LibraryUnavailable, NoSuchTracks
from embeddings.library.base import Library, LibraryTrack, PresentTrack

__all__ = ["Library", "LibraryTrack", "PresentTrack", "has_library", "is_streamed", "open_library", "require_tracks"]


def open_library() -> Library:
    """Return the library that the settings choose. Cheap; nothing is read until its methods are called.

    Raises LibraryUnavailable, naming the variable, when the settings do not say where the library is.
    """
    from django.conf import settings

    music_root: Path | None = settings.NAVIDROME_MUSIC_ROOT
    database: Path | None = settings.NAVIDROME_DB_PATH
    if settings.LIBRARY == "folder":
        from embeddings.library.folder import FolderLibrary
        from embeddings.library.sync import as_scanned

        if music_root is None:
            raise LibraryUnavailable("NAVEMBED_LIBRARY is folder: set NAVIDROME_MUSIC_ROOT to your music.")
        return FolderLibrary(music_root, as_scanned)

    if settings.LIBRARY == "subsonic":
        from embeddings.library.subsonic import SubsonicLibrary

        listing = settings.CACHE_DIR / "subsonic.sqlite3"
        return SubsonicLibrary(listing, music_root=music_root, path_map=settings.LIBRARY_PATH_MAP)

    from embeddings.library.navidrome import NavidromeLibrary

    if database is None:
        raise LibraryUnavailable("Set NAVIDROME_DB_PATH to Navidrome's database, usually named navidrome.db.")
    return NavidromeLibrary(database, music_root=music_root, path_map=settings.LIBRARY_PATH_MAP)


def has_library() -> bool:
    """Whether the settings name a library: a host that only computes may go without."""
    from django.conf import settings

    needed = {"folder": settings.NAVIDROME_MUSIC_ROOT, "subsonic": settings.SUBSONIC_URL}
    return bool(needed.get(settings.LIBRARY, settings.NAVIDROME_DB_PATH))


def is_streamed() -> bool:
    """Whether the music lies in a music server alone, and has to be fetched to be heard."""
    from django.conf import settings

    return settings.LIBRARY == "subsonic" and not (settings.NAVIDROME_MUSIC_ROOT or settings.LIBRARY_PATH_MAP)


def require_tracks(library_id: int | None, path_prefix: str) -> None:
    """Raise NoSuchTracks when no track is in this library with such a path; cheap, also where there are a million.

    Says nothing while the library cannot be read.
    """
    if library_id is None and not path_prefix:
        return
    try:
        library = open_library()
        names = library.libraries()
        if library_id is not None and library_id not in names:
            there_are = ", ".join(f"{number} ({name})" for number, name in names.items())
            raise NoSuchTracks(f"there is no library {library_id}; there are: {there_are}")
        if path_prefix and not library.holds(path_prefix, library_id):
            folders = ", ".join(map(str, library.folders().values()))
            raise NoSuchTracks(f"no track's path begins with {path_prefix}; the music lies in {folders}")
    except LibraryUnavailable:
        return
