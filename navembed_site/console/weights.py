"""The download of the models' weights, begun from the console: a process of its own, which outlives its page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from navembed_site.console import health
from navembed_site.errors import NavembedError
from navembed_site.process.locks import hold, is_held

LOCK = "fetch_models"
"""Held by the process that downloads, until its end."""

_process: subprocess.Popen[bytes] | None = None


@dataclass(frozen=True)
class Download:
    """How far it is. ``line`` is what it said last; ``arrived`` bytes of ``wanted``, which is None when not known."""

    is_running: bool
    line: str
    arrived: int
    wanted: int | None

    @property
    def percent(self) -> float | None:
        return min(100.0, 100 * self.arrived / self.wanted) if self.wanted else None


def begin(models: Sequence[str]) -> None:
    """Start the download. Raises NavembedError when there is nothing to download, or one runs already."""
    if not models:
        raise NavembedError("nothing is missing: the weights of all models are here")
    sizes = [health.models.get()[model]["download_bytes"] for model in models]
    wanted = 0 if None in sizes else sum(sizes)
    try:
        lock = hold(LOCK, wait=False)
    except BlockingIOError:
        raise NavembedError("the download is running already") from None
    command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "fetch_models", "--models", *models]
    global _process  # noqa: PLW0603  (Python complains of a process that nobody knows any more)
    with lock, _log().open("w") as log:
        print(wanted, _stored(), file=log, flush=True)
        shared = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "pass_fds": [lock.fileno()]}
        _process = subprocess.Popen(command, start_new_session=True, **shared)  # type: ignore[call-overload]


def download() -> Download:
    """Return how far the download is, or how the last one ended."""
    is_running = is_held(LOCK)
    try:
        head, *lines = _log().read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    except OSError:
        return Download(is_running, "", 0, None)
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    wanted, _, before = head.partition(" ")
    if not (wanted.isdigit() and before.isdigit()):
        return Download(is_running, said, 0, None)
    return Download(is_running, said, max(0, _stored() - int(before)), int(wanted) or None)


def _stored() -> int:
    """Return the bytes in the folder that downloads go to; links to the same file count once."""
    folder = Path(settings.CHECKPOINT_DIR)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _log() -> Path:
    folder = Path(settings.LOG_DIR)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "fetch_models.log"
