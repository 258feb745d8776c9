"""What a library is to the rest of the system: playable tracks in pages, ordered by id."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

PAGE_SIZE = 2000
LONGEST_SECONDS = 10**8  # three years

Tell = Callable[[str], None]
"""Called about once a second with what is being done, in words; stops it by raising."""


def tell_nobody(doing: str) -> None:
    """Shows nothing."""


@dataclass(frozen=True, slots=True)
class LibraryTrack:
    """A track that can be played now. Its texts hold no NUL, no lone surrogates: any database takes them."""

    id: str
    library_id: int
    path: str
    """Absolute on this machine, as ``names.storable`` writes it; the file need not be there."""
    title: str
    artist: str
    """Display name; may be empty."""
    album: str
    duration: float
    """Seconds as declared by the library; 0 when unknown. Not to be trusted."""
    size: int
    """Bytes."""
    mtime: str
    """The library's text for the last change; compared, never parsed."""
    genre: str = ""
    """The first one; empty when the library names none."""


@dataclass(frozen=True, slots=True)
class PresentTrack:
    """What the library says at this moment of a track that can be played."""

    library_id: int
    title: str
    artist: str
    """Display name; may be empty."""
    artist_id: str
    """Of the first artist; empty where the library has no such ids."""
    participants: frozenset[str]
    """Ids of everybody who takes part in it, in whatever role."""


class Library(Protocol):
    """A source of tracks. Every method raises LibraryUnavailable when it cannot be read now."""

    def pages(self, tell: Tell = tell_nobody) -> Iterator[list[LibraryTrack]]:
        """Yield the playable tracks in non-empty pages, ordered by id (by Unicode code points)."""
        ...

    def count(self) -> int:
        """Return about how many tracks ``pages`` yields, in a second even where there are a million."""
        ...

    def holds(self, path_prefix: str, library_id: int | None = None) -> bool:
        """Return whether a track's path begins so, in that library or any, in a second where there are a million."""
        ...

    def folders(self) -> dict[int, Path]:
        """Return the folders the tracks lie in by library, absolute on this machine."""
        ...

    def examples(self, count: int) -> dict[Path, list[str]]:
        """Return the paths of so many tracks for each of the ``folders``; none where the folder itself is the list."""
        ...

    def libraries(self) -> dict[int, str]:
        """Return the names of the libraries by id."""
        ...

    def last_scan(self) -> datetime | None:
        """Return when the library's own last scan ended; None during one, after none, or if it has no such thing."""
        ...

    def present(self, ids: Collection[str]) -> dict[str, PresentTrack]:
        """Return those of these tracks that the library has now and does not call missing, by id."""
        ...

    def deleted(self, tracks: Mapping[str, int]) -> set[str]:
        """Return those of these tracks, library by id, that have been deleted: not those that are merely not there."""
        ...

    def visible_to(self, user: str) -> frozenset[int] | None:
        """Return the libraries that a user, by id or name, may see; None when nothing restricts anybody.

        Somebody unknown sees what every user may see.
        """
        ...

    def in_playlists(self, playlist_ids: Collection[str]) -> set[str]:
        """Return the ids of the tracks in these playlists; unknown ones are empty."""
        ...

    def of_album(self, album_id: str) -> set[str]:
        """Return the ids of an album's tracks; none where the library has no such ids."""
        ...

    def of_artist(self, artist_id: str) -> set[str]:
        """Return the ids of the tracks that an artist plays on; none where the library has no such ids."""
        ...

    def artist_names(self, artist_ids: Collection[str]) -> dict[str, str]:
        """Return the names of those of these artists that the library knows, by id."""
        ...


def finite(number: object) -> float:
    """Return a length as it can be added up: 0 for what is unknown, negative, absurd or no number."""
    try:
        seconds = float(number or 0)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 < seconds < LONGEST_SECONDS else 0.0
