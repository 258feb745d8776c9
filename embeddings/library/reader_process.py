"""Lists folders and reads tags in a process of its own: a file may blow it up or crash it, a share may block it.

``python -m embeddings.library.reader_process MOST_BYTES PARENT_PID`` reads requests, one JSON object a line, from stdin
and answers on stdout; ``reader.py`` is the other end. It has so much memory and, for each file, so much computing time.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mutagen

from embeddings.audio.decoder_process import die_with
from embeddings.audio.tags import texts
from embeddings.library.base import finite
from embeddings.library.folders import is_there
from embeddings.library.walk import audio_files
from navembed_site.names import LONGEST_TEXT

Answer = Callable[[dict[str, Any]], None]

FILE_SECONDS = 10.0
"""Of computing, not of waiting: a slow disk is no fault of the file's."""
FILES_AN_ANSWER = 1000
GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG}
FIELDS = ("title", "artist", "album", "genre")


class _TooLong(BaseException):
    """A file takes too much computing; no handler within a library catches it."""


def main() -> None:
    most_bytes, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; our parent decides
    die_with(parent)
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    signal.signal(signal.SIGPROF, _stop)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers

    def answer(found: dict[str, Any]) -> None:
        os.write(answers, json.dumps(found).encode() + b"\n")

    for line in sys.stdin.buffer:
        request = json.loads(line)
        if root := request.get("walk"):
            _walk(root, request["path_prefix"], answer)
        for wanted in request.get("files", ()):
            answer(_file(*wanted))
        if "try" in request:
            answer({"there": is_there(Path(request["root"]))})
            for path in request["try"]:
                answer({"problem": _problem(path)})


def _stop(*_: object) -> None:
    raise _TooLong


def _walk(root: str, path_prefix: str, answer: Answer) -> None:
    """Answer with the files found so far, and the folder that is read next; at the end with an ``error``, or None."""
    files: list[str] = []

    def entering(folder: str) -> None:
        answer({"files": files, "folder": folder})
        files.clear()

    try:
        for path in audio_files(root, path_prefix, entering, lambda reason: answer({"files": [], "left_out": reason})):
            files.append(path)
            if len(files) >= FILES_AN_ANSWER:
                answer({"files": files})
                files.clear()
        answer({"files": files, "error": None})
    except OSError as error:
        answer({"files": [], "folder": error.filename, "error": error.strerror})


def _problem(path: str) -> tuple[int | None, str | None] | None:
    """Return what keeps a file from being read."""
    try:
        with Path(path).open("rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        return error.errno, error.strerror
    return None


def _file(path: str, known: Sequence[Any] | None, with_tags: bool) -> dict[str, Any]:
    """Return the file's size and time, and its tags unless it is as ``known``, not ``with_tags``, or cannot be read.

    ``gone``: there is no file. ``error``: the storage fails.
    """
    try:
        status = Path(path).stat()
    except OSError as error:
        return {"gone": True} if error.errno in GONE else {"error": error.strerror}
    if not stat.S_ISREG(status.st_mode):
        return {"gone": True, "left_out": "it is not a regular file"}  # opening a pipe would wait for ever
    found = {"size": status.st_size, "mtime": str(status.st_mtime_ns)}
    if not with_tags or known == [found["size"], found["mtime"]]:
        return found
    try:
        with _time_limit():
            return found | {"tags": _tags(path)}
    except (Exception, _TooLong) as error:  # a damaged file makes mutagen raise almost anything
        return found | {"unreadable": f"{type(error).__name__}: {error}"[:LONGEST_TEXT]}


@contextmanager
def _time_limit() -> Iterator[None]:
    signal.setitimer(signal.ITIMER_PROF, FILE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _tags(path: str) -> dict[str, Any]:
    """Return the texts that we show, and the seconds that the file declares (0: unknown)."""
    file = mutagen.File(path)
    if file is None:
        return {}
    return {**texts(file, FIELDS), "duration": finite(getattr(file.info, "length", 0))}


if __name__ == "__main__":
    main()
