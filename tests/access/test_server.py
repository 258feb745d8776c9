"""The same over sockets: what the real server makes of addresses, duplicate headers, odd lengths."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable

from tests.instance.conftest import Instance, eventually, instance, migrated_database

__all__ = ["eventually", "instance", "migrated_database"]

BODY = b'{"models": ["vggish"]}'  # of a start that is understood, and refused for its model
JSON = "Content-Type: application/json"
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = "Transfer-Encoding: chunked"
CHUNKS = b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"

CALLS: dict[str, tuple[list[str], bytes, int]] = {
    "as Go does": ([JSON, LENGTH], BODY, 422),
    "in chunks": ([JSON, CHUNKED], CHUNKS, 411),
    "chunks and a length": ([JSON, CHUNKED, "Content-Length: 3"], CHUNKS, 411),
    "smuggled chunks": ([JSON, "Transfer-Encoding: xchunked"], CHUNKS, 400),
    "two lengths": ([JSON, LENGTH, "Content-Length: 0"], BODY, 400),
    "length of a terabyte": ([JSON, "Content-Length: 1000000000000"], b"", 413),
    "negative length": ([JSON, "Content-Length: -1"], BODY, 400),
    "through a proxy": ([JSON, LENGTH, "X-Forwarded-For: 127.0.0.1"], BODY, 403),
    "through a proxy with underscores": ([JSON, LENGTH, "X_Forwarded_For: 127.0.0.1"], BODY, 403),
    "through a proxy that says nothing": ([JSON, LENGTH, "Forwarded:"], BODY, 403),
    "foreign page": ([JSON, LENGTH, "Origin: https://evil.example"], BODY, 403),
    "own and foreign page": ([JSON, LENGTH, "Origin: http://{host}", "Origin: https://evil.example"], BODY, 403),
    "page that is no text": ([JSON, LENGTH, "Origin: \xff"], BODY, 403),
    "own page": ([JSON, LENGTH, "Origin: http://{host}"], BODY, 422),
    "form": (["Content-Type: text/plain", LENGTH], BODY, 403),
    "form and JSON": (["Content-Type: text/plain", JSON, LENGTH], BODY, 403),
    "type that is no text": (["Content-Type: text/plain; \xff", LENGTH], BODY, 403),
    "wrong token": ([JSON, LENGTH, "Authorization: Bearer nv_x"], BODY, 401),
    "two tokens": ([JSON, LENGTH, "Authorization: Bearer a", "Authorization: Bearer b"], BODY, 401),
    "second name": ([JSON, LENGTH, "Host: evil.example"], BODY, 400),
    "many headers": ([JSON, LENGTH, *(f"X-{number}: x" for number in range(200))], BODY, 431),
    "long header": ([JSON, LENGTH, "X: " + "x" * 2**20], BODY, 431),
}


def send(address: tuple[str, int], lines: list[str], body: bytes, method: str = "POST /batch/start HTTP/1.1") -> bytes:
    """What the server answers to exactly this, until it closes the connection."""
    text = "\r\n".join([method, *lines, "Connection: close", "", ""])
    received = b""
    with socket.create_connection(address, 20) as client:
        try:
            client.sendall(text.encode("latin-1") + body)
            while piece := client.recv(2**16):
                received += piece
        except ConnectionError:  # it has answered, and reads no further
            pass
    return received


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_calls_without_credentials(instance: Instance, eventually: Callable[..., None]) -> None:
    instance.environment["NAVEMBED_BIND"] = "::"
    instance.start("web")
    eventually(instance.answers)
    found = {}
    for name, (lines, body, _) in CALLS.items():
        host = f"127.0.0.1:{instance.port}"
        given = [f"Host: {host}", *(line.replace("{host}", host) for line in lines)]
        found[name] = status(send(("127.0.0.1", instance.port), given, body))
    assert found == {name: wanted for name, (_, _, wanted) in CALLS.items()}


def test_callers_of_other_protocols_and_families(instance: Instance, eventually: Callable[..., None]) -> None:
    instance.environment["NAVEMBED_BIND"] = "::"
    instance.start("web")
    eventually(instance.answers)
    four, six, host = ("127.0.0.1", instance.port), ("::1", instance.port), f"Host: 127.0.0.1:{instance.port}"
    progress = "GET /batch/progress HTTP/1."
    assert status(send(six, ["Host: [::1]"], b"", f"{progress}1")) == 200
    assert status(send(four, [host], b"", f"{progress}0")) == 403
    assert status(send(four, [], b"", f"{progress}1")) == 400
    assert status(send(four, [], b"", "GET /healthz HTTP/1.0")) == 200
    assert status(send(four, ["Host: evil.example"], b"", "HEAD /healthz HTTP/1.1")) == 200
    assert status(send(four, [host], b"", "GET http://evil.example/batch/progress HTTP/1.1")) in {200, 400}


def test_token_of_the_command_opens_the_api(instance: Instance, eventually: Callable[..., None]) -> None:
    token = instance.run("create_token", "script", "--scope", "read").stdout.strip()
    instance.start("web")
    eventually(instance.answers)
    lines = [f"Host: 127.0.0.1:{instance.port}", f"Authorization: Bearer {token}"]
    answer = send(("127.0.0.1", instance.port), lines, b"", "GET /api/v1/batches HTTP/1.1")
    assert (status(answer), json.loads(answer.split(b"\r\n\r\n")[1])["results"]) == (200, [])
    assert instance.run("tokens", "--revoke", "script").returncode == 0
    assert status(send(("127.0.0.1", instance.port), lines, b"", "GET /api/v1/batches HTTP/1.1")) == 401
