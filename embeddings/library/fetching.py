"""Files that lie in a music server alone: fetched for as long as somebody works with them, or listens."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from embeddings.errors import LibraryUnavailable, ServerRefused
from embeddings.library import is_streamed
from embeddings.library.listing import WORK
from embeddings.library.places import places
from embeddings.library.subsonic import asking
from embeddings.models import Track
from embeddings.subsonic import NOT_FOUND
from navembed_site.process.slow_calls import RaiseIfStopped

LEFT_BEHIND_SECONDS = 86_400.0
HEARD = f"{WORK}heard"
MOST_HEARD = 8  # files

_fetching = threading.BoundedSemaphore(2)  # each keeps one of web's threads


@contextmanager
def fetched(tracks: Iterable[Track], raise_if_stopped: RaiseIfStopped) -> Iterator[dict[str, str]]:
    """Yield where the files of these tracks are for a while, by id; nothing when the music lies on this machine.

    What the server does not have is left out. ``raise_if_stopped`` is called all the while. Raises
    LibraryUnavailable, and what ``raise_if_stopped`` raises.
    """
    if not is_streamed():
        yield {}
        return
    settings.CACHE_DIR.mkdir(parents=True, exist_ok=True)
    forget_left_behind()  # also on hosts that only compute, where nothing else keeps house
    with tempfile.TemporaryDirectory(prefix=WORK, dir=settings.CACHE_DIR) as folder:
        yield _fetch(tracks, Path(folder), raise_if_stopped)


def _fetch(tracks: Iterable[Track], folder: Path, raise_if_stopped: RaiseIfStopped) -> dict[str, str]:
    files = {}
    with asking() as server:
        for number, track in enumerate(tracks):
            file = folder / f"{number}{Path(track.path).suffix}"
            try:
                server.fetch(track.pk, file, raise_if_stopped)
                files[track.pk] = str(file)
            except ServerRefused as refusal:
                if refusal.code != NOT_FOUND:
                    raise
            except OSError as error:
                raise LibraryUnavailable(f"Music cannot be fetched into {folder}: {error.strerror}.") from error
    return files


def heard(track: Track) -> Path:
    """Return where a track's file is for somebody who asks for it piece by piece.

    One that is fetched is kept for the next pieces, until others have taken its place. Raises FileNotFoundError and
    LibraryUnavailable.
    """
    if not is_streamed():
        return Path(places().file(track.path))
    folder = settings.CACHE_DIR / HEARD
    name = hashlib.sha256(f"{track.pk}\0{track.size}\0{track.mtime}".encode()).hexdigest()
    file: Path = folder / f"{name}{Path(track.path).suffix}"
    try:
        os.utime(file)
    except FileNotFoundError:
        if not _fetching.acquire(blocking=False):
            raise LibraryUnavailable("Other music is being fetched.") from None
        try:
            with fetched([track], lambda: None) as files:
                folder.mkdir(exist_ok=True)
                Path(files.get(track.pk, "nowhere")).replace(file)
        finally:
            _fetching.release()
        for old in sorted(folder.iterdir(), key=lambda each: -each.stat().st_mtime)[MOST_HEARD:]:
            old.unlink(missing_ok=True)
    return file


def forget_left_behind() -> int:
    """Delete what processes have left that were killed; returns how many folders."""
    before = time.time() - LEFT_BEHIND_SECONDS
    old = [each for each in settings.CACHE_DIR.glob(f"{WORK}*") if each.stat().st_mtime < before]
    for each in old:
        shutil.rmtree(each, ignore_errors=True)
    return len(old)
