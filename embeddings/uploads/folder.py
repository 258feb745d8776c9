"""Uploads that come by HTTP: a folder each, in which their tracks can be fetched for a day."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.conf import settings

KEEP_SECONDS = 86_400.0
MUSIC, SHEET = "upload", "sheet"  # as they came


def make() -> Path:
    """Return a new folder; its name is the upload's id."""
    folder = _all() / uuid.uuid4().hex
    folder.mkdir(mode=0o700, parents=True)
    return folder


def tidy(place: Path, answer: Mapping[str, Any]) -> None:
    """Delete what came; the tracks alone are kept, if there are any."""
    if not answer.get("splitFiles"):
        shutil.rmtree(place, ignore_errors=True)
    for name in (MUSIC, SHEET):
        (place / name).unlink(missing_ok=True)


def track(upload_id: uuid.UUID, number: int) -> Path | None:
    """Return a track that was split from an upload; None when there is none, or it was too long ago."""
    found = _all() / upload_id.hex / track_name(number)
    return found if found.is_file() else None


def track_name(number: int) -> str:
    return f"{number:03}.flac"


def forget_old() -> int:
    """Delete what has been kept for a day; returns how many uploads."""
    now = time.time()
    old = [folder for folder in _all().glob("*") if now - folder.stat().st_mtime > KEEP_SECONDS]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


def _all() -> Path:
    return Path(settings.NAVEMBED_HOME) / "uploads"
