"""Unix sockets as signs of life of those who listen on them."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0  # how often a server looks after the file of its socket


def accepts(path: Path) -> bool:
    """Whether a server accepts connections on the unix socket ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def end_without(path: Path) -> None:
    """Ask this process to end when its unix socket ``path`` is deleted, or somebody else's lies there.

    Nobody could reach it any more; who started it starts another.
    """

    def inode() -> int | None:
        try:
            return path.stat().st_ino
        except FileNotFoundError:
            return None

    def watch(made: int | None) -> None:
        while made and inode() == made:  # it may have gone before we looked
            time.sleep(LOOK_SECONDS)
        logger.critical("%s was deleted; this process ends, to be started again.", path)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, args=(inode(),), name="socket", daemon=True).start()
