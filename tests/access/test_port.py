"""Strangers who stall, flood and loop: the port goes on answering everybody else.

Without defence each of these attacks starves all other calls for as long as it lasts.
"""

from __future__ import annotations

import http.client
import re
import resource
import select
import shutil
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from embeddings.embedder.client import socket_path
from tests.access.test_server import send, status
from tests.instance.conftest import Instance, migrated_database

__all__ = ["migrated_database"]

ALIVE_SECONDS = 30  # with a starved server it would be for ever
HOST = "Host: 127.0.0.1"
JSON = "Content-Type: application/json"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PREPARE = """
from embeddings.models import EmbeddingSpace
from navembed_site.access.tokens import create_token
EmbeddingSpace.objects.create(model="muq", fingerprint="f", dimension=1536, recipe={}, status="live")
print(create_token("stranger", "read", created_by="test").secret)
"""


@pytest.fixture(scope="module")
def served(migrated_database: Path) -> Iterator[Instance]:
    """``web`` alone, with an embedder that listens and says nothing."""
    home = Path(tempfile.mkdtemp(prefix="nt-", dir="/tmp"))
    shutil.copy(migrated_database, home)
    environment = {"NAVEMBED_HOME": str(home), "NAVEMBED_LIBRARY": "folder", "NAVIDROME_MUSIC_ROOT": str(home)}
    instance = Instance(home, environment | {"DATABASE_URL": "", "NAVEMBED_MAX_UPLOAD_MB": "2"})
    instance.start("web")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(home / socket_path().name))
        silent.listen(64)
        while not instance.answers():
            time.sleep(0.1)
        yield instance
    instance.end()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def token(served: Instance) -> str:
    """Of the scope read, in a library that can be searched."""
    return served.run("shell", "--no-imports", "-c", PREPARE).stdout.strip()


@pytest.fixture(autouse=True, scope="module")
def many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def is_alive(served: Instance) -> bool:
    """Whether the port answers; a call that gets no answer raises TimeoutError."""
    return all(call(served, "GET", path)[0] == 200 for path in ("/healthz", "/batch/progress"))


def call(
    served: Instance, method: str, path: str, body: str = "", headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=ALIVE_SECONDS)) as connection:
        connection.request(method, path, body or None, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read().decode()


def stalled(served: Instance, said: str, source: str = "127.0.0.1") -> socket.socket:
    """A client that has said so much, and says and reads nothing more."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(ALIVE_SECONDS)
    client.bind((source, 0))
    client.connect(("127.0.0.1", served.port))
    client.sendall(said.encode())
    return client


@contextmanager
def over_and_over(attack: Callable[[], object], times: int = 1) -> Iterator[None]:
    """Loop ``attack`` in so many threads, whatever becomes of it."""
    ended = threading.Event()

    def loop() -> None:
        while not ended.is_set():
            try:
                attack()
            except (OSError, http.client.HTTPException):
                continue

    threads = [threading.Thread(target=loop) for _ in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_clients_that_never_read(served: Instance) -> None:
    with ExitStack() as open_ones:
        for _ in range(1_100):
            open_ones.enter_context(stalled(served, f"GET /static/admin/css/base.css HTTP/1.1\r\n{HOST}\r\n\r\n" * 4))
        assert is_alive(served)


def test_requests_that_are_never_finished(served: Instance) -> None:
    with ExitStack() as open_ones:

        def one_more() -> None:
            open_ones.enter_context(stalled(served, f"GET /healthz HTTP/1.1\r\n{HOST}"))
            time.sleep(1 / 240)

        with over_and_over(one_more):
            while len(open_ones._exit_callbacks) < 1_100:  # type: ignore[attr-defined]
                assert is_alive(served)
        assert is_alive(served)


def test_bodies_that_do_not_come(served: Instance) -> None:
    said = f"POST /batch/start HTTP/1.1\r\n{HOST}\r\n{JSON}\r\nContent-Length: 1000\r\n\r\n{{"
    with ExitStack() as open_ones:
        for number in range(40):
            open_ones.enter_context(stalled(served, said, f"127.0.0.{2 + number % 5}"))
        assert is_alive(served)
        answer = call(served, "POST", "/batch/start", '{"models": ["vggish"]}', {"Content-Type": "application/json"})
        assert answer[0] == 422


def test_large_bodies_have_so_much_room_together(served: Instance, token: str) -> None:
    lines = [HOST, f"Authorization: Bearer {token}", "Content-Length: 2000000"]
    said = "\r\n".join(["POST /api/v1/search HTTP/1.1", *lines, "", "x"])
    with stalled(served, said), stalled(served, said):
        while status(answer := send(("127.0.0.1", served.port), lines, b"", "POST /api/v1/search HTTP/1.1")) != 503:
            time.sleep(0.1)  # the others have not been looked at yet
        assert b"Retry-After: " in answer


def test_guesses_at_passwords(served: Instance) -> None:
    seen: Counter[int] = Counter()

    def guess() -> None:
        _, headers, page = call(served, "GET", "/admin/login/")
        found = re.search('csrfmiddlewaretoken" value="([^"]+)', page)
        assert found
        form = urlencode({"csrfmiddlewaretoken": found[1], "username": time.time_ns(), "password": "x"})
        cookie = headers["Set-Cookie"].partition(";")[0]
        seen[call(served, "POST", "/admin/login/", form, FORM | {"Cookie": cookie})[0]] += 1

    with over_and_over(guess, 64):
        while not seen[503]:
            assert is_alive(served)


def test_uploads_that_are_heard_for_long(served: Instance, token: str) -> None:
    body = '--x\r\nContent-Disposition: form-data; name="audio"; filename="a.flac"\r\n\r\nfLaC\r\n--x--\r\n'
    lines = ["Content-Type: multipart/form-data; boundary=x", f"Authorization: Bearer {token}"]
    said = "\r\n".join(["POST /api/v1/search HTTP/1.1", HOST, *lines, f"Content-Length: {len(body)}", "", body])
    with ExitStack() as open_ones:
        strangers = [open_ones.enter_context(stalled(served, said)) for _ in range(40)]
        while len(answered := select.select(strangers, [], [], 0)[0]) < 30:
            assert is_alive(served)
        answers = [each.recv(2**16) for each in answered]
        assert {status(answer) for answer in answers if b"Retry-After: " in answer} == {503}


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/api/v1/batches", b"application/problem+json"),
        ("/batch/progress?x", b"application/json"),
        ("/admin/", b"text/plain; charset=utf-8"),
        ("no address", b"text/plain; charset=utf-8"),
    ],
)
def test_refusals_of_heads_are_in_their_callers_language(served: Instance, target: str, kind: bytes) -> None:
    heads = {
        400: ["Content-Length: x", "no header", " second line", "Transfer-Encoding: x"],
        431: ["X: " + "x" * 70_000],
    }
    for code, lines in heads.items():
        for line in lines:
            answer = send(("127.0.0.1", served.port), [HOST, line], b"", f"GET {target} HTTP/1.1")
            assert (status(answer), b"Content-Type: " + kind in answer) == (code, True), answer
            assert (b'"instance": "/api/v1/batches"' in answer) == (b"problem" in answer)


@pytest.mark.parametrize("line", ["X: {}", "X-{}: x"])
def test_heads_have_64_kilobytes(served: Instance, line: str) -> None:
    def answer_to(length: int) -> int:
        return status(send(("127.0.0.1", served.port), [HOST, line.format("x" * length)], b"", "GET /healthz HTTP/1.1"))

    assert (answer_to(63 * 1024), answer_to(64 * 1024)) == (200, 431)


def test_addresses_are_part_of_the_head(served: Instance) -> None:
    def answer_to(length: int) -> int:
        return status(send(("127.0.0.1", served.port), [HOST], b"", f"GET /healthz?{'x' * length} HTTP/1.1"))

    assert (answer_to(63 * 1024), answer_to(64 * 1024)) == (200, 431)
