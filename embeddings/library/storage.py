"""Whether music is merely away: a disk that is not mounted, a share that answers with errors, or not at all."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from django.db import Error as DatabaseError

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.library.folders import is_there
from embeddings.models import Track
from embeddings.names import original, storable
from embeddings.patience import patiently, within

LOOK_SECONDS = 10.0  # a disk that spins up takes less
OTHERS = 8  # files that are looked at beside those that failed
FEWEST = 3  # files that must all be missing before the library is; else somebody has deleted one
_look_lock = threading.Lock()
_last_look: threading.Thread | None = None
_answers = 0  # to questions about a file


def why_away(paths: Sequence[str]) -> str:
    """Return why files that failed are no fault of their own, naming the folder; empty when the storage is well.

    Other files of the same storage decide: where these can be read, each failure is the file's own.
    """
    try:
        roots = [Path(storable(os.fsencode(root))) for root in open_library().roots()]  # as tracks' paths are written
    except LibraryUnavailable as error:
        return str(error)
    below = {root: [path for path in paths if Path(path).is_relative_to(root)] for root in roots}
    return next((reason for root in roots if below[root] and (reason := _why_away(root, below[root]))), "")


def _why_away(root: Path, paths: Sequence[str]) -> str:
    found: list[str] = []
    others = _others(paths)
    if not _looked_in_time(lambda: found.append(_look(root, paths, others))):
        return f"the music folder {root} does not answer"
    return found[0] if found else ""


def what_is_away() -> list[str]:
    """Try a few files of each library; return in sentences what cannot be found or read, and how to mend it.

    It takes some seconds at most, also where a share is blocked.
    """
    try:
        examples = open_library().examples(OTHERS)
    except LibraryUnavailable as error:
        return [str(error)]
    return [problem for root, paths in examples.items() if (problem := _try_in_time(root, paths))]


def _try_in_time(root: Path, paths: Sequence[str]) -> str:
    try:
        return patiently(partial(_try, root, paths), within(LOOK_SECONDS, TimeoutError()))
    except TimeoutError:
        return f"The music folder {root} does not answer; jobs would wait for it."


def _try(root: Path, paths: Sequence[str]) -> str:
    elsewhere = "If the music lies elsewhere on this machine, NAVEMBED_PATH_MAP or NAVIDROME_MUSIC_ROOT says where."
    if not is_there(root):
        return f"The music folder {root} is empty or not there; jobs would wait for it. {elsewhere}"
    problems = [problem for path in paths if (problem := _problem(path))]
    if len(problems) < len(paths) or not paths:
        return ""
    if any(not isinstance(problem, FileNotFoundError) for problem in problems):
        return f"The music in {root} cannot be read: {problems[0].strerror}, for example {paths[0]}."
    return f"None of {len(paths)} files that the library names is in {root}, for example {paths[0]}. {elsewhere}"


def _others(paths: Sequence[str]) -> list[str]:
    """Return the paths of some other tracks, from all over the same library: ids are in no order of folders."""
    try:
        first = Track.objects.filter(path__in=paths).first()
        if first is None:
            return []
        tracks = Track.objects.filter(playable=True, library_id=first.library_id).exclude(path__in=paths)
        after = tracks.filter(pk__gt=first.pk).order_by("pk").values_list("path", flat=True)[:OTHERS]
        before = tracks.filter(pk__lt=first.pk).order_by("-pk").values_list("path", flat=True)[:OTHERS]
        return [*after, *before]
    except DatabaseError:
        return []  # it is away, too; what a chunk has computed must not be lost over that


def _looked_in_time(look: Callable[[], None]) -> bool:
    """Look in a thread, which may never come back; while one hangs there is no second one.

    Slow storage has time for each file.
    """
    global _last_look  # noqa: PLW0603  (one for the whole process)
    with _look_lock:
        if _last_look and _last_look.is_alive():
            return False
        _last_look = threading.Thread(target=look, name="storage", daemon=True)
        _last_look.start()
        before = -1
        while _last_look.is_alive() and before != _answers:
            before = _answers
            _last_look.join(LOOK_SECONDS)
        return not _last_look.is_alive()


def _look(root: Path, paths: Sequence[str], others: Sequence[str]) -> str:
    if not is_there(Path(_file(root))):
        return f"the music folder {root} is empty or not mounted"
    problems = [problem for path in paths if (problem := _problem(path))]
    if not problems:
        return ""
    failed = next((error for error in problems if not isinstance(error, FileNotFoundError)), None)
    if failed is not None:
        storage = _mount_of(str(failed.filename))
        others = [path for path in others if Path(path).is_relative_to(storage)]
        if any(_problem(path) is None for path in others):
            return ""
        return f"the music folder {storage} cannot be read: {failed.strerror}"
    looked_at = [*paths, *others]
    if len(looked_at) < FEWEST or len(problems) < len(paths) or any(_problem(path) is None for path in others):
        return ""
    return (
        f"none of the files that the library names can be found, for example {looked_at[0]}: is the music mounted, "
        "and do NAVIDROME_MUSIC_ROOT and NAVEMBED_PATH_MAP name its folder on this machine?"
    )


def _problem(path: str) -> OSError | None:
    global _answers  # noqa: PLW0603  (the thread that waits for us counts them)
    try:
        with Path(_file(path)).open("rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        error.filename = path
        return error
    finally:
        _answers += 1
    return None


def _file(path: str | Path) -> str:
    """Return a path as the operating system knows it."""
    return os.fsdecode(original(str(path)))


def _mount_of(path: str) -> Path:
    """Return the mount point that ``path`` lies below."""
    folder = Path(path).parent
    while not os.path.ismount(_file(folder)) and folder != folder.parent:
        folder = folder.parent
    return folder
