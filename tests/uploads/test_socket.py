"""Every row of the contract about the socket itself: each request gets one object, whatever it holds."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.conf import settings as django_settings

from embeddings.models import Upload
from embeddings.uploads import server as upload_server_module
from embeddings.uploads.server import UploadServer
from embeddings.uploads.service import Uploads
from navembed_site.process.unix_socket import accepts
from tests.freezing import freeze
from tests.uploads.client import GoClient, answer_of
from tests.uploads.conftest import serving

NO_REQUESTS = {
    "nothing": (b"", "not one line of JSON"),
    "an empty line": (b"\n", "not one line of JSON"),
    "no JSON": (b"hello\n", "not one line of JSON"),
    "half of it": (b'{"music_file": "/a', "not one line of JSON"),
    "no UTF-8": (b'{"music_file": "\xff"}\n', "not one line of JSON"),
    "a hole": (b"[" * 100_000 + b"\n", "not one line of JSON"),
    "a huge number": (b"1" * 10_000 + b"\n", "not one line of JSON"),
    "null": (b"null\n", "not a JSON object"),
    "an array": (b"[1]\n", "not a JSON object"),
    "no file": (b"{}\n", "names no music_file"),
    "a number for a file": (b'{"music_file": 7}\n', "music_file is not a text"),
    "a relative path": (b'{"music_file": "a.mp3"}\n', "not an absolute path"),
    "half a character": (b'{"music_file": "/\\ud800"}\n', "music_file is not a text"),
    "a NUL": (b'{"music_file": "/a\\u0000"}\n', "not an absolute path"),
    "a list for a name": (b'{"music_file": "/a", "name": []}\n', "name is not a text"),
    "an object for a sheet": (b'{"music_file": "/a", "cue_file": {}}\n', "cue_file is not a text"),
}


def test_what_is_no_request_is_told_so(client: GoClient) -> None:
    found = {kind: client.send(sent)["message"] for kind, (sent, _) in NO_REQUESTS.items()}
    assert all(told in found[kind] for kind, (_, told) in NO_REQUESTS.items()), found


def test_what_is_no_music_is_told_so(client: GoClient, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "words.mp3").write_bytes(b"This is no music.\n" * 500)
    os.mkfifo(tmp_path / "pipe")
    asked = {
        str(tmp_path / "nothing.mp3"): "no such file",
        str(tmp_path / "folder"): "is a folder",
        str(tmp_path / "pipe"): "not a regular file",
        "/dev/zero": "not a regular file",
        str(tmp_path / "words.mp3"): "not a readable audio file",
    }
    found = {path: client.upload(path)["message"] for path in asked}
    assert all(told in found[path] for path, told in asked.items()), found


def test_a_hundred_megabytes_on_one_line_are_answered(client: GoClient) -> None:
    assert "longer than" in client.send(b"x" * 100_000_000 + b"\n")["message"]


def test_a_client_that_does_not_half_close_is_answered(client: GoClient) -> None:
    with client.connect() as connection:
        connection.sendall(b'{"music_file": "/nothing"}\nand more\n')
        assert connection.recv(65_536).startswith(b'{"status": "error"')


def test_a_client_that_stalls_is_answered(client: GoClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_server_module, "REQUEST_SECONDS", 0.3)
    with client.connect() as connection:
        connection.sendall(b'{"music_file"')
        assert "no whole request came" in str(answer_of(connection))


def test_others_are_answered_beside_clients_that_stall_or_leave(client: GoClient) -> None:
    stalling = [client.connect() for _ in range(20)]
    for leaving in (client.connect(), client.connect()):
        leaving.sendall(b'{"music_file": "/nothing"}\n')
        leaving.close()
    assert client.upload("/nothing")["status"] == "error"
    for connection in stalling:
        connection.close()


def test_the_socket_is_its_owners_alone(upload_server: UploadServer) -> None:
    assert stat.S_IMODE(Path(str(upload_server.server_address)).stat().st_mode) == 0o600


def test_each_upload_is_listed_with_its_answer(client: GoClient) -> None:
    answer = client.upload("/nothing", name="C:\\music\\a song.mp3")
    listed = Upload.objects.get()
    assert (listed.name, listed.accepted, listed.answer) == ("a song.mp3", False, answer)


# The process


@pytest.fixture
def program(short_tmp: Path, transactional_db: None) -> Any:
    """``manage.py uploads`` of the tests' instance."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "uploads"]
        environment = os.environ | {"NAVEMBED_UPLOAD_SOCKET": str(short_tmp / "u.sock")}
        with (short_tmp / "log").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        with process:
            process.kill()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_stale_socket_is_replaced_and_none_is_left(short_tmp: Path, program: Any) -> None:
    path = short_tmp / "u.sock"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stale:
        stale.bind(str(path))
    process = program()
    wait_for(lambda: accepts(path))
    with GoClient(path).connect() as half:
        half.sendall(b'{"music_file": "/nothing"')
        process.send_signal(signal.SIGTERM)
        half.sendall(b"}\n")
        assert answer_of(half)["status"] == "error"  # no such file, or, on a busy machine, not in time
    assert process.wait(20) == 0
    assert not path.exists()


def test_what_cannot_be_finished_at_the_end_is_told_so(short_tmp: Path, program: Any, arrived: Any) -> None:
    path = short_tmp / "u.sock"
    process = program()
    wait_for(lambda: accepts(path))
    with GoClient(path).connect() as connection:
        connection.sendall(b'{"music_file": "%s"}\n' % str(arrived()).encode())
        wait_for(lambda: bool(psutil.Process(process.pid).children()))
        freeze(psutil.Process(process.pid).children()[0].pid)  # its decoder
        process.send_signal(signal.SIGTERM)
        assert "is being stopped" in answer_of(connection)["message"]
    assert process.wait(20) == 0


def test_who_would_be_left_at_the_end_is_answered(
    short_tmp: Path, transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FINISH_SECONDS", "END_SECONDS"):
        monkeypatch.setattr(upload_server_module, name, 0.05)
    hanging, going_on = threading.Event(), threading.Event()
    monkeypatch.setattr(Uploads, "answer", lambda *_: (hanging.set(), going_on.wait(), {"status": "ok"})[2])
    with serving(short_tmp / "u.sock"):
        connection = GoClient(short_tmp / "u.sock").connect()
        connection.sendall(b'{"music_file": "/nothing"}\n')
        hanging.wait()
    with connection:
        assert b"is being stopped" in connection.recv(65_536)
    going_on.set()


def test_a_socket_on_which_somebody_listens_is_left_alone(short_tmp: Path, program: Any) -> None:
    path = short_tmp / "u.sock"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as other:
        other.bind(str(path))
        other.listen()
        program()
        wait_for(lambda: b"Somebody else takes uploads" in (short_tmp / "log").read_bytes())
        assert accepts(path)


def test_clients_are_answered_side_by_side(client: GoClient) -> None:
    answers: list[dict[str, Any]] = []
    threads = [threading.Thread(target=lambda: answers.append(client.upload("/nothing"))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 32
    assert json.dumps(answers).count("no such file") == 32
