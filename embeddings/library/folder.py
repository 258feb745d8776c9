"""A plain folder of music as a library, for people without Navidrome."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import LibraryTrack, PresentTrack, Tell, tell_nobody
from embeddings.library.reader import Found, Reader, Wanted
from navembed_site.names import clean_text, short_text, storable

PAGE_SIZE = 500
PAGE_SECONDS = 2.0  # what has been read from slow storage is soon written
ANSWER_SECONDS = 10.0  # that somebody who asks waits for files to be listed
ID_BYTES = 16

Known = Callable[[Collection[str]], Mapping[str, LibraryTrack]]


class FolderLibrary:
    """The audio files under ``root``, as one library with id 1.

    A track's id is the start of the SHA-256 of its path relative to ``root``: it stays while the file is not
    moved. Hidden files and folders are skipped. Links are followed; a folder counts once.
    """

    def __init__(self, root: Path, known: Known = lambda ids: {}) -> None:
        self.root = root
        self._known = known

    def pages(self, tell: Tell = tell_nobody) -> Iterator[list[LibraryTrack]]:
        """Yield the tracks in non-empty pages of at most ``PAGE_SIZE``, ordered by id.

        Paths are kept (about 150 bytes a file). Only files that are not ``known`` by size and time are opened for their
        tags: a scan that was broken off goes on where it was. Raises LibraryUnavailable.
        """
        with Reader(self.root, tell) as reader:
            keys = self._keys(reader)
            page: list[LibraryTrack] = []
            began = time.monotonic()
            reader.doing = f"reading the library: 0 of {len(keys):,} files"
            for number, track in enumerate(self._tracks(keys, reader), 1):
                reader.doing = f"reading the library: {number:,} of {len(keys):,} files"
                page += [track] if track else []
                if page and (number % PAGE_SIZE == 0 or time.monotonic() - began >= PAGE_SECONDS):
                    yield page
                    page, began = [], time.monotonic()
            if page:
                yield page

    def count(self) -> int:
        """Return how many tracks the last scan found; before the first one, how many files there are."""
        from embeddings.models import Track

        return Track.objects.filter(playable=True).count() or sum(1 for _ in self._paths())

    def holds(self, path_prefix: str, library_id: int | None = None) -> bool:
        """Return whether a file's path begins so; only folders that may lead there are looked into."""
        if library_id not in (None, 1):
            return False
        return any(path.startswith(path_prefix) for path in self._paths(path_prefix))

    def folders(self) -> dict[int, Path]:
        """Return the folder itself."""
        return {1: self.root}

    def examples(self, count: int) -> dict[Path, list[str]]:
        """Return none: what is listed is there."""
        return {self.root: []}

    def libraries(self) -> dict[int, str]:
        """Return the folder's name as that of library 1."""
        return {1: clean_text(self.root.name)}

    def last_scan(self) -> None:
        """Return None: a folder is not scanned by anybody else."""

    def present(self, ids: Collection[str]) -> dict[str, PresentTrack]:
        """Return what the last scan saw of these tracks."""
        from embeddings.library.sync import known_tracks

        return known_tracks(ids)

    def deleted(self, tracks: Mapping[str, int]) -> set[str]:
        """Return nothing: a file that is deleted looks like one whose disk is away."""
        return set()

    def visible_to(self, user: str) -> None:
        """Return None: a folder has no users."""

    def in_playlists(self, playlist_ids: Collection[str]) -> set[str]:
        """Return nothing: a folder has no playlists that we read."""
        return set()

    def of_album(self, album_id: str) -> set[str]:
        """Return nothing: a folder's albums have no ids."""
        return set()

    def of_artist(self, artist_id: str) -> set[str]:
        """Return nothing: a folder's artists have no ids."""
        return set()

    def artist_names(self, artist_ids: Collection[str]) -> dict[str, str]:
        """Return nothing: a folder's artists have no ids."""
        return {}

    def _paths(self, path_prefix: str = "") -> Iterator[str]:
        """Yield the files' paths. Raises LibraryUnavailable, also when that takes long."""
        until = time.monotonic() + ANSWER_SECONDS

        def tell(doing: str) -> None:
            if time.monotonic() > until:
                raise LibraryUnavailable(f"the music folder {self.root} is slow to list")

        with Reader(self.root, tell) as reader:
            yield from itertools.chain.from_iterable(reader.walk(path_prefix))

    def _keys(self, reader: Reader) -> list[bytes]:
        """Return digest and path of each file in one string: it sorts by id, and a million of them stay small."""
        prefix = len(os.fsencode(self.root / "x")) - 1
        keys: list[bytes] = []
        for paths in reader.walk():
            keys += [_digest(path) + path for path in (os.fsencode(path)[prefix:] for path in paths)]
            reader.doing = f"listing the library: {len(keys):,} files so far"
        return sorted(keys)

    def _tracks(self, keys: list[bytes], reader: Reader) -> Iterator[LibraryTrack | None]:
        for start in range(0, len(keys), PAGE_SIZE):
            files = {key[:ID_BYTES].hex(): os.fsdecode(key[ID_BYTES:]) for key in keys[start : start + PAGE_SIZE]}
            known = self._known(files)
            wanted = [Wanted(str(self.root / path), _as_read(known.get(track_id))) for track_id, path in files.items()]
            for track_id, file, found in zip(files, wanted, reader.files(wanted), strict=True):
                yield _track(track_id, file.path, found, known.get(track_id))


def _digest(path: bytes) -> bytes:
    return hashlib.sha256(path).digest()[:ID_BYTES]


def _as_read(known: LibraryTrack | None) -> tuple[int, str] | None:
    """Return size and time of a file whose tags were read; those of one without a length may have been out of reach."""
    return (known.size, known.mtime) if known and known.duration else None


def _track(track_id: str, path: str, found: Found, known: LibraryTrack | None) -> LibraryTrack | None:
    """Return what is to be kept of a file: what cannot be read now of it stays as it was."""
    if found.gone or found.hanging:
        return known if found.hanging else None
    stored = storable(os.fsencode(path))
    if known and found.tags is None:
        return replace(known, path=stored, size=found.size, mtime=found.mtime)
    tags = found.tags or {}
    return LibraryTrack(
        id=track_id,
        library_id=1,
        path=stored,
        title=short_text(tags.get("title") or Path(path).stem),
        artist=short_text(tags.get("artist")),
        album=short_text(tags.get("album")),
        duration=tags.get("duration", 0.0),
        size=found.size,
        mtime=found.mtime,
        genre=short_text(tags.get("genre", "").split(",")[0].strip()),
    )
