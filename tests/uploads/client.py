"""Navidrome's server as the socket knows it: one JSON line, half-close, read one object."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any


class GoClient:
    """Knows no time-out; the test's own is its only one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(self._path))
        return client

    def send(self, data: bytes) -> dict[str, Any]:
        """Send bytes as they are, and decode one object as encoding/json does; what follows it is never read."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return answer_of(client)

    def upload(self, music_file: Path | str, **fields: Any) -> dict[str, Any]:
        request = {"music_file": str(music_file), "name": Path(music_file).name} | fields
        return self.send(json.dumps(request).encode() + b"\n")


def answer_of(client: socket.socket) -> dict[str, Any]:
    received = b""
    while piece := client.recv(65_536):
        received += piece
    found = json.loads(received)
    assert isinstance(found, dict)
    assert found["status"] == "ok" or (found["status"] == "error" and isinstance(found["message"], str))
    return found
