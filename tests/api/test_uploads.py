"""Uploaded files on the disk of a served instance: none outlives its request, or the server that was killed with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.instance.conftest import Instance, eventually, instance, migrated_database

__all__ = ["eventually", "instance", "migrated_database"]

PART = '--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
END = "\r\n--x--\r\n"
SOUND = "s" * 300_000
FILE = PART.format(field="audio", name="a")
REFUSED = {
    "strange name": (PART.format(field="audio", name="x." + "m3u8" * 75) + SOUND, 200),  # nothing is embedded
    "several files": (FILE + SOUND + "\r\n" + FILE + SOUND, 400),
    "base64 that is none": (FILE[:-2] + "Content-Transfer-Encoding: base64\r\n\r\n" + "!" * 9_999, 400),
}


@pytest.fixture
def served(instance: Instance, eventually: Callable[..., None]) -> Instance:
    instance.environment["TOKEN"] = instance.run("create_token", "script", "--scope", "read").stdout.strip()
    instance.start("web")
    eventually(instance.answers)
    return instance


def connect(served: Instance, body: str, length: int) -> socket.socket:
    """Send the beginning of a search."""
    lines = [
        "POST /api/v1/search HTTP/1.1",
        f"Host: 127.0.0.1:{served.port}",
        f"Authorization: Bearer {served.environment['TOKEN']}",
        "Content-Type: multipart/form-data; boundary=x",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    client = socket.create_connection(("127.0.0.1", served.port), 60)
    client.sendall(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
    return client


def uploads(served: Instance) -> list[Path]:
    return list(served.home.glob("tmp*"))


def test_refused_uploads_are_answered_and_gone(served: Instance, eventually: Callable[..., None]) -> None:
    found = {}
    for name, (body, _) in REFUSED.items():
        with closing(connect(served, body + END, len(body + END))) as client:
            found[name] = int(client.recv(65_536).split()[1])
    assert found == {name: status for name, (_, status) in REFUSED.items()}
    eventually(lambda: not uploads(served), 20)


def test_uploads_that_break_off_leave_nothing(served: Instance) -> None:
    clients = [connect(served, FILE + SOUND, 10**6) for _ in range(8)]
    assert served.answers()
    for client in clients:
        client.close()
    assert served.answers()
    assert not uploads(served)


def test_what_a_killed_server_leaves_is_gone_with_the_next(served: Instance, eventually: Callable[..., None]) -> None:
    served.started[-1].kill()
    eventually(lambda: not served.pids())
    left = served.home / "tmpabc.upload"
    left.write_bytes(b"sound")
    os.utime(left, (0, 0))
    served.start("web")
    eventually(served.answers)
    assert not uploads(served)
