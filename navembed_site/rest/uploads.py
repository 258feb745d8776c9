"""Uploaded files are gone with their request; what a killed process leaves is deleted here."""

from __future__ import annotations

import time
from pathlib import Path

from django.conf import settings

LEFT_BEHIND_SECONDS = 86_400


def forget_left_behind() -> int:
    """Delete files of requests that did not end; returns how many."""
    old = time.time() - LEFT_BEHIND_SECONDS
    left = [path for path in Path(settings.FILE_UPLOAD_TEMP_DIR).glob("tmp*.upload*") if path.stat().st_mtime < old]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
