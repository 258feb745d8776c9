"""Files uploaded to a served instance: only their own sound is heard, none outlives its request or its server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from embeddings.embedder.client import EmbedderClient, socket_path
from embeddings.spaces.lifecycle import fingerprint_of
from navembed_site.demo.encode import write_audio, write_blocks
from tests.audio_files import tone
from tests.chaos.share import hold_files
from tests.instance.conftest import Instance, eventually, migrated_database, module_instance
from tests.instances import EmbedderProcess

__all__ = ["eventually", "migrated_database", "module_instance"]

PART = '--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
END = "\r\n--x--\r\n"
SOUND = "s" * 300_000
FILE = PART.format(field="audio", name="a")
REFUSED = {
    "strange name": (PART.format(field="audio", name="x." + "m3u8" * 75) + SOUND, 200),  # nothing is embedded
    "several files": (FILE + SOUND + "\r\n" + FILE + SOUND, 400),
    "base64 that is none": (FILE[:-2] + "Content-Transfer-Encoding: base64\r\n\r\n" + "!" * 9_999, 400),
}

LIVE_SPACE = """
from embeddings.models import EmbeddingSpace
EmbeddingSpace.objects.get_or_create(model="muq", fingerprint="{}", dimension=1536, recipe={{}}, status="live")
"""
PLAYLISTS = {
    "x.m3u8": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{}\n#EXT-X-ENDLIST\n",
    "x.m3u": "#EXTM3U\n#EXTINF:3,x\nfile://{}\n",
    "x.ffconcat": "ffconcat version 1.0\nfile 'secret.wav'\n",
    "x.flac": "ffconcat version 1.0\nfile '{}'\n",
}


@pytest.fixture(scope="module")
def served(module_instance: Instance, eventually: Callable[..., None]) -> Instance:
    token = module_instance.run("create_token", "script", "--scope", "read").stdout.strip()
    module_instance.environment["TOKEN"] = token
    module_instance.start("web")
    eventually(module_instance.answers)
    return module_instance


@pytest.fixture
def hearing(served: Instance, embedder: EmbedderProcess) -> Instance:
    """It can be searched by sound: the tests' own embedder hears for it."""
    served.run("shell", "--no-imports", "-c", LIVE_SPACE.format(fingerprint_of(EmbedderClient().describe("muq"))))
    link = served.home / socket_path().name
    link.unlink(missing_ok=True)
    link.symlink_to(socket_path())
    return served


@pytest.fixture
def local_file(hearing: Instance) -> Iterator[Path]:
    """Music of the machine's own; to open it takes longer than a search may last."""
    path = hearing.home / "secret.wav"
    write_audio(path, tone(3), 44_100)
    let_go = hold_files([path])
    yield path
    let_go()


def search(served: Instance, name: str, content: bytes) -> str:
    """Upload a file to search by; return the whole answer."""
    head = PART.format(field="audio", name=name).encode()
    with closing(connect(served, "", len(head + content) + len(END))) as client:
        client.sendall(head + content + END.encode())
        return b"".join(iter(lambda: client.recv(65_536), b"")).decode()


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


def test_playlists_are_refused_and_what_they_name_is_not_opened(hearing: Instance, local_file: Path) -> None:
    answers = [search(hearing, name, text.format(local_file).encode()) for name, text in PLAYLISTS.items()]
    assert {answer[:12] for answer in answers} == {"HTTP/1.1 422"}
    assert all("not a readable" in answer for answer in answers), answers


def test_two_hours_of_silence_are_heard_for_one(hearing: Instance) -> None:
    hour = np.zeros((1, 3_600 * 8_000), np.float32)
    write_blocks(hearing.home / "long.flac", [hour] * 2, 8_000)
    answer = search(hearing, "long.flac", (hearing.home / "long.flac").read_bytes())
    assert answer.startswith("HTTP/1.1 422")
    assert "longer than 1 h (of a file to search by)" in answer
