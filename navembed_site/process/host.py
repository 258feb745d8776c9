"""Which host this is: one per NAVEMBED_HOME, whatever its machine is called today."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from django.conf import settings


def host_key() -> str:
    """Return the key that NAVEMBED_HOME keeps; the first call of all makes it."""
    return _key_in(Path(settings.NAVEMBED_HOME))


def host_name() -> str:
    """Return how people know this machine."""
    return socket.gethostname()


@cache
def _key_in(home: Path) -> str:
    path = home / "host"
    if not path.exists():
        draft = path.with_name(f"host.{os.getpid()}")
        draft.write_text(f"{secrets.token_hex(4)}\n")
        with suppress(FileExistsError):  # another process was faster
            path.hardlink_to(draft)
        draft.unlink()
    return path.read_text().strip()
