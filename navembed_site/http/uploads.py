"""Uploaded files are gone with their request; what a killed process leaves is deleted here."""

from __future__ import annotations

import fcntl
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler

NAME = "sound"
YOUNG_SECONDS = 1.0  # between a file and its lock


class UploadHandler(TemporaryFileUploadHandler):
    """Writes a file to the disk under a name of ours, locked for as long as somebody uses it.

    What the client calls it neither decides how it is read, nor must it fit into a file's name.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._files: list[TemporaryUploadedFile] = []

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, NAME, *args, **kwargs)
        fcntl.flock(self.file.fileno(), fcntl.LOCK_EX)
        self._files.append(self.file)

    def forget(self) -> None:
        """Delete what has come. Django deletes files when they are garbage, and an idle server collects none."""
        for file in self._files:
            file.close()


def forget_left_behind() -> int:
    """Delete files whose server was killed, also one of these moments; returns how many."""
    left = [path for path in Path(settings.FILE_UPLOAD_TEMP_DIR).glob("tmp*.upload") if _is_left(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _is_left(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel frees what the dead have locked
            return time.time() - path.stat().st_mtime > YOUNG_SECONDS
    except OSError:
        return False
