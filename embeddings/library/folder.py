"""A plain folder of music as a library, for people without Navidrome."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mutagen

from embeddings.errors import LibraryUnavailable
from embeddings.library.base import LibraryTrack, PresentTrack, finite
from embeddings.names import clean_text, storable

logger = logging.getLogger(__name__)

# fmt: off
SUFFIXES = (
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".alac", ".ape", ".au", ".caf", ".dff", ".dsf", ".flac", ".m4a",
    ".m4b", ".mka", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".shn", ".spx", ".tak", ".tta", ".w64",
    ".wav", ".weba", ".webm", ".wma", ".wv",
)
# fmt: on
PAGE_SIZE = 500  # every file of a page is opened for its tags
ID_BYTES = 16
# Names of a field in the tags that mutagen reads: Vorbis and APE, ID3, MP4, ASF.
TITLE = ("title", "tit2", "\xa9nam")
ARTIST = ("artist", "tpe1", "\xa9art", "author")
ALBUM = ("album", "talb", "\xa9alb", "wm/albumtitle")


class FolderLibrary:
    """The audio files under ``root``, as one library with id 1.

    A track's id is the start of the SHA-256 of its path relative to ``root``: it stays while the file is not
    moved. Hidden files and folders are skipped. Links are followed; a folder counts once.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def pages(self) -> Iterator[list[LibraryTrack]]:
        """Yield the tracks in non-empty pages of at most ``PAGE_SIZE``, ordered by id.

        Paths are kept (about 150 bytes a file), tags are read page by page. Raises LibraryUnavailable.
        """
        # Digest and path in one string: it sorts by id, and a million of them stay small.
        keys = sorted(_digest(path) + path for path in self._walk())
        for start in range(0, len(keys), PAGE_SIZE):
            tracks = (self._track(key) for key in keys[start : start + PAGE_SIZE])
            if page := [track for track in tracks if track]:
                yield page

    def count(self) -> int:
        """Return how many tracks the last scan found; before the first one, how many files there are."""
        from embeddings.models import Track

        return Track.objects.filter(playable=True).count() or sum(1 for _ in self._walk())

    def holds(self, path_prefix: str, library_id: int | None = None) -> bool:
        """Return whether a file's path begins so; only folders that may lead there are looked into."""
        if library_id not in (None, 1):
            return False
        root = str(self.root)
        return any(f"{root}/{os.fsdecode(path)}".startswith(path_prefix) for path in self._walk(path_prefix))

    def roots(self) -> list[Path]:
        """Return the folder itself."""
        return [self.root]

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

    def visible_to(self, user_id: str) -> None:
        """Return None: a folder has no users."""

    def in_playlists(self, playlist_ids: Collection[str]) -> set[str]:
        """Return nothing: a folder has no playlists that we read."""
        return set()

    def _walk(self, path_prefix: str = "") -> Iterator[bytes]:
        """Yield the audio files' paths relative to the root, each folder once; none that cannot begin so.

        Linked folders come after all real ones, by name: a folder's path must not depend on the order in
        which a disk lists its entries.
        """
        prefix = len(os.fsencode(self.root / "x")) - 1
        seen: set[tuple[int, int]] = set()
        real, linked = [str(self.root)], list[str]()
        while real or linked:
            if not real:
                linked.sort(reverse=True)
                real.append(linked.pop())
            for entry in self._entries(real.pop(), seen):
                if not (entry.path.startswith(path_prefix) or path_prefix.startswith(f"{entry.path}/")):
                    continue
                # Only links cost a look at the disk, and one that leads to itself must not raise.
                if entry.is_dir(follow_symlinks=False):
                    real.append(entry.path)
                elif entry.is_symlink() and Path(entry.path).is_dir():
                    linked.append(entry.path)
                elif entry.name.lower().endswith(SUFFIXES):
                    yield os.fsencode(entry.path)[prefix:]

    def _entries(self, folder: str, seen: set[tuple[int, int]]) -> list[os.DirEntry[str]]:
        """Return what is not hidden in ``folder``; nothing if it has been seen already or may not be read."""
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                return []
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                return [entry for entry in entries if not entry.name.startswith(".")]
        except OSError as error:
            if folder != str(self.root) and isinstance(error, PermissionError | FileNotFoundError):
                logger.warning("Folder %s is left out: %s.", folder, error.strerror)
                return []
            # A disk that fails half-way must not look like a library that has lost its tracks.
            message = f"The music folder {folder} (NAVIDROME_MUSIC_ROOT) cannot be read: {error.strerror}."
            raise LibraryUnavailable(message) from error

    def _track(self, key: bytes) -> LibraryTrack | None:
        path = self.root / os.fsdecode(key[ID_BYTES:])
        try:
            status = path.stat()
        except OSError:  # gone since the walk, or a link to nowhere
            return None
        if not stat.S_ISREG(status.st_mode):
            logger.warning("%r is left out: it is not a regular file.", str(path))  # opening a pipe would wait for ever
            return None
        tags, duration = _read_tags(path)
        return LibraryTrack(
            id=key[:ID_BYTES].hex(),
            library_id=1,
            path=storable(os.fsencode(path)),
            title=clean_text(_field(tags, TITLE) or path.stem),
            artist=clean_text(_field(tags, ARTIST)),
            album=clean_text(_field(tags, ALBUM)),
            duration=duration,
            size=status.st_size,
            mtime=str(status.st_mtime_ns),
        )


def _digest(path: bytes) -> bytes:
    return hashlib.sha256(path).digest()[:ID_BYTES]


def _read_tags(path: Path) -> tuple[Mapping[str, Any], float]:
    """Return the tags by lower-case name, and the seconds that the file declares (0: unknown)."""
    try:
        file = mutagen.File(path)
        if file is None:
            return {}, 0.0
        tags = {str(name).lower(): value for name, value in (file.tags or {}).items()}
        return tags, finite(getattr(file.info, "length", 0))
    except Exception as error:  # a damaged file makes mutagen raise almost anything
        logger.debug("No tags of %s: %s", path, error)
        return {}, 0.0


def _field(tags: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the first field present, several values joined by commas."""
    for name in names:
        value = tags.get(name)
        if value is None:
            continue
        values = getattr(value, "text", value)
        texts = [str(part).strip() for part in (values if isinstance(values, list) else [values])]
        if text := ", ".join(dict.fromkeys(filter(None, texts))):  # FFmpeg writes WMA's artist twice
            return text
    return ""
