"""Files that lie in a music server alone: fetched for as long as somebody works with them."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings

from embeddings.errors import LibraryUnavailable, ServerRefused
from embeddings.library import is_streamed
from embeddings.library.listing import WORK
from embeddings.library.subsonic import asking
from embeddings.models import Track
from embeddings.subsonic import NOT_FOUND
from navembed_site.process.slow_calls import RaiseIfStopped

LEFT_BEHIND_SECONDS = 86_400.0


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


def forget_left_behind() -> int:
    """Delete what processes have left that were killed; returns how many folders."""
    before = time.time() - LEFT_BEHIND_SECONDS
    old = [each for each in settings.CACHE_DIR.glob(f"{WORK}*") if each.stat().st_mtime < before]
    for each in old:
        shutil.rmtree(each, ignore_errors=True)
    return len(old)
