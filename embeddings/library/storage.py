"""Whether music is merely away: a disk that is not mounted, a share that answers with errors, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from django.db import Error as DatabaseError

from embeddings.errors import LibraryUnavailable
from embeddings.library import is_streamed, open_library
from embeddings.library.places import Places, here, places
from embeddings.library.reader import look_at
from embeddings.models import Track
from navembed_site.names import original, storable

LOOK_SECONDS = 10.0  # for each file; a disk that spins up takes less
OTHERS = 8  # files that are looked at beside those that failed
FEWEST = 3  # files that must all be missing before the library is; else somebody has deleted one
STORAGE_SECONDS = 20.0  # without progress; then storage is looked at


def why_away(paths: Sequence[str]) -> str:
    """Return why files that failed are no fault of their own, naming the folder; empty when the storage is well.

    Other files of the same storage decide: where these can be read, each failure is the file's own. What is fetched
    from a music server has no storage.
    """
    if is_streamed():
        return ""
    try:
        where = places()
    except DatabaseError:  # it is away, too; what a chunk has computed must not be lost over that
        where = Places({}, here())
    below = {
        root: [path for path in paths if Path(where.path_here(path)).is_relative_to(root)]
        for root in map(Path, where.here.values())
    }
    return next((reason for root in below if below[root] and (reason := _why_away(root, below[root], where))), "")


def _why_away(root: Path, paths: Sequence[str], where: Places) -> str:
    others = _others(paths)
    try:
        return _look(root, [*map(where.path_here, paths)], [*map(where.path_here, others)])
    except LibraryUnavailable:
        return f"the music folder {root} does not answer"


def gone_with_their_folder(paths: Sequence[str]) -> set[str]:
    """Return those of files which are missing that miss their whole folder, or of which it is empty.

    One of several disks may not be mounted; who deletes a single file leaves its folder.
    """
    folders = {path: str(Path(path).parent) for path in paths}
    there = {folder for folder in set(folders.values()) if _is_there(folder)}
    return {path for path, folder in folders.items() if folder not in there}


def _is_there(folder: str) -> bool:
    try:
        return look_at(Path(_file(folder)), [], LOOK_SECONDS).is_there
    except LibraryUnavailable:
        return False


class StorageWatch:
    """Looks at the music of a chunk when nothing happens, so that a share that does not answer is told of soon.

    ``paths``: of the chunk's files, by track id.
    """

    def __init__(self, paths: Mapping[str, str]) -> None:
        self._paths = dict(paths)
        self._next = STORAGE_SECONDS

    def forget(self, track_id: str) -> None:
        """Leaves out a track that has been read."""
        self._paths.pop(track_id, None)
        self._next = STORAGE_SECONDS

    def look(self, idle_seconds: float) -> None:
        """Raises LibraryUnavailable when the storage is away, after so long without progress."""
        if idle_seconds < self._next:
            return
        self._next = idle_seconds + STORAGE_SECONDS
        if reason := why_away([*self._paths.values()][:2]):  # those in work; slow storage takes long over many
            raise LibraryUnavailable(reason)


def what_is_away() -> list[str]:
    """Try a few files of each library; return in sentences what cannot be found or read, and how to mend it.

    It takes some seconds at most, also where a share is blocked.
    """
    try:
        examples = open_library().examples(OTHERS)
    except LibraryUnavailable as error:
        return [str(error)]
    return [problem for root, paths in examples.items() if (problem := _away_now(root, paths))]


def _away_now(root: Path, paths: Sequence[str]) -> str:
    try:
        return _try(root, paths)
    except LibraryUnavailable:
        return f"The music folder {root} does not answer; jobs would wait for it."


def _try(root: Path, paths: Sequence[str]) -> str:
    elsewhere = "If the music lies elsewhere on this machine, NAVEMBED_PATH_MAP or NAVIDROME_MUSIC_ROOT says where."
    looked = look_at(root, paths, LOOK_SECONDS)
    if not looked.is_there:
        return f"The music folder {root} is empty or not there; jobs would wait for it. {elsewhere}"
    problems = [problem for problem in looked.problems if problem]
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


def _look(root: Path, paths: Sequence[str], others: Sequence[str]) -> str:
    looked = look_at(Path(_file(root)), [_file(path) for path in (*paths, *others)], LOOK_SECONDS)
    if not looked.is_there:
        return f"the music folder {root} is empty or not mounted"
    problems = [problem for problem in looked.problems[: len(paths)] if problem]
    if not problems:
        return ""
    of_others = list(zip(others, looked.problems[len(paths) :], strict=True))
    failed = next((error for error in problems if not isinstance(error, FileNotFoundError)), None)
    if failed is not None:
        storage = _mount_of(storable(os.fsencode(failed.filename)))
        if any(problem is None for path, problem in of_others if Path(path).is_relative_to(storage)):
            return ""
        return f"the music folder {storage} cannot be read: {failed.strerror}"
    looked_at = [*paths, *others]
    if len(looked_at) < FEWEST or len(problems) < len(paths) or any(problem is None for _, problem in of_others):
        return ""
    return (
        f"none of the files that the library names can be found, for example {looked_at[0]}: is the music mounted, "
        "and do NAVIDROME_MUSIC_ROOT and NAVEMBED_PATH_MAP name its folder on this machine?"
    )


def _file(path: str | Path) -> str:
    """Return a path as the operating system knows it."""
    return os.fsdecode(original(str(path)))


def _mount_of(path: str) -> Path:
    """Return the mount point that ``path`` lies below."""
    folder = Path(path).parent
    while not os.path.ismount(_file(folder)) and folder != folder.parent:
        folder = folder.parent
    return folder
