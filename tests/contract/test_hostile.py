"""What nobody should send. Each gets a clear refusal or a closed connection, starts nothing, and the server goes on."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable
from contextlib import closing

import pytest

from tests.contract.conftest import Bare

JSON = "Content-Type: application/json"
HOST = "Host: 127.0.0.1"
SECONDS = 60.0
CLOSED = 0
"""Instead of a status: the server has ended the connection without a word."""

MALFORMED = {400, CLOSED}
NOT_JSON = {400, 422}


def request(method: str = "POST", target: str = "/batch/start", *headers: str, body: bytes | str = b"") -> bytes:
    """A request as it should be, apart from its parts."""
    content = body if isinstance(body, bytes) else body.encode()
    lines = [f"{method} {target} HTTP/1.1", HOST, JSON, f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + content


def raw(*lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def start(body: bytes | str) -> bytes:
    return request(body=body)


def playlist(body: str) -> bytes:
    return request("POST", "/playlist/custom", body=body)


def post(*lines: str, body: bytes = b"") -> bytes:
    """A start with these header lines alone."""
    return raw("POST /batch/start HTTP/1.1", *lines, body=body)


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "NaN": (start('{"models": NaN}'), NOT_JSON),
    "Infinity": (start('{"clearExisting": -Infinity}'), NOT_JSON),
    "1e400": (start('{"models": [1e400]}'), NOT_JSON),
    "1e400 in a playlist": (playlist('{"seeds": [], "diversity": 1e400}'), NOT_JSON),
    "1e400 in a field that nobody reads": (start('{"more": 1e400}'), NOT_JSON),
    "-0": (start('{"models": -0}'), NOT_JSON),
    "-0 in a playlist": (playlist('{"seeds": [], "limit": -0}'), NOT_JSON),
    "integer of 5,000 digits": (start('{"clearExisting": ' + "9" * 5000 + "}"), NOT_JSON),
    "large integer": (start('{"models": [' + "9" * 400 + "]}"), NOT_JSON),
    "depth bomb of lists": (start("[" * 200_000), NOT_JSON),
    "depth bomb of objects": (start('{"models":' * 100_000 + "1" + "}" * 100_000), NOT_JSON),
    "deep but whole": (start('{"models": ' + "[" * 900 + "]" * 900 + "}"), NOT_JSON),
    "20 MB": (start('{"more": "' + "x" * 20_000_000 + '"}'), {413, CLOSED}),
    "invalid UTF-8": (start(b'{"models": ["\xff\xfe\xc0\x80"]}'), NOT_JSON),
    "overlong UTF-8": (start(b'{"models": ["\xc1\xad\xc1\xb5\xc1\xb1"]}'), NOT_JSON),
    "UTF-16": (start('{"models": ["muq"]}'.encode("utf-16")), NOT_JSON),
    "UTF-32": (start('{"models": ["muq"]}'.encode("utf-32-le")), NOT_JSON),
    "byte order mark": (start(b'\xef\xbb\xbf{"models": ["muq"]}'), NOT_JSON),
    "NUL bytes": (start(b"\0" * 100), NOT_JSON),
    "NUL after the end": (start(b'{"models": ["muq"]}\0'), NOT_JSON),
    "NUL in a string": (start(r'{"models": ["muq\u0000"]}'), NOT_JSON),
    "lone surrogate": (start(r'{"models": ["\ud800"]}'), NOT_JSON),
    "lone surrogate as a name": (start(r'{"models": {"\udfff": 1}}'), NOT_JSON),
    "lone surrogate in a playlist": (playlist(r'{"seeds": [], "models": ["\ud800"]}'), NOT_JSON),
    "name twice": (start('{"models": ["muq"], "models": ["mert"]}'), NOT_JSON),
    "two objects": (start('{"models": ["muq"]}{}'), NOT_JSON),
    "comma too many": (start('{"models": ["muq"],}'), NOT_JSON),
    "comment": (start('{"models": ["muq"]} // start'), NOT_JSON),
    "quotes of Python": (start("{'models': ['muq']}"), NOT_JSON),
    "blank": (start("   "), NOT_JSON),
    "packed": (request("POST", "/batch/start", "Content-Encoding: gzip", body=b"\x1f\x8b\x08\0"), {400, 415, 422}),
    "form": (post(HOST, "Content-Type: application/x-www-form-urlencoded", "Content-Length: 10", body=b"models=muq"),
             {403, 415}),
    "text": (post(HOST, "Content-Type: text/plain", "Content-Length: 2", body=b"{}"), {403, 415}),
    "upload": (post(HOST, "Content-Type: multipart/form-data; boundary=a", "Content-Length: 5", body=b"--a--"),
               {403, 415}),
    "no type": (post(HOST, "Content-Length: 2", body=b"{}"), {403, 415}),
    "odd type": (post(HOST, "Content-Type: ;;;=,", "Content-Length: 2", body=b"{}"), {400, 403, 415}),
}  # fmt: skip

TARGETS = (
    "/batch/../batch/start", "/batch/%2e%2e/batch/start", "/batch/..%2fstart", "/batch/start%00", "/batch/start%2f",
    "//batch/start", "/batch//start", "/batch/start.", "/batch/start%20", "/batch/start;a=1", "/batch/start/.",
    "/batch%5cstart", "/batch%c0%afstart", "/batch/start%ff", "/static/../../manage.py",
    "/static/%2e%2e/%2e%2e/manage.py",
    "/static/..%5c..%5cmanage.py", "/playlist/..%2f..%2fetc%2fpasswd", "/playlist/",
    "/BATCH/START", "/batch/start%0d%0aX-Injected:1", f"/{'a' * 9000}", f"/{'../' * 1000}etc/passwd",
)  # fmt: skip
PATHS = {target[:50]: (request("POST", target), {400, 404, 414, CLOSED}) for target in TARGETS} | {
    "bytes beyond ASCII": (raw("POST /batch/st\xe4rt HTTP/1.1", HOST), {400, 404, CLOSED}),
    "blank in the target": (raw("POST /batch/start now HTTP/1.1", HOST), MALFORMED),
    "no target": (raw("POST HTTP/1.1", HOST), MALFORMED),
    "target of 200 kB": (request("GET", f"/{'a' * 200_000}"), {400, 404, 414, 431, CLOSED}),
}

HEADERS: dict[str, tuple[bytes, set[int]]] = {
    "length and chunks": (
        post(HOST, JSON, "Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\nPOST /batch/start"),
        {400, 411, CLOSED},
    ),
    "two lengths": (post(HOST, JSON, "Content-Length: 0", "Content-Length: 5", body=b"{...}"), MALFORMED),
    "list of lengths": (post(HOST, JSON, "Content-Length: 0, 5", body=b"{...}"), MALFORMED),
    "length with a sign": (post(HOST, JSON, "Content-Length: +0"), MALFORMED),
    "negative length": (post(HOST, JSON, "Content-Length: -1"), MALFORMED),
    "length in hexadecimal": (post(HOST, JSON, "Content-Length: 0x0"), MALFORMED),
    "length of 30 digits": (post(HOST, JSON, f"Content-Length: {'9' * 30}"), {400, 413, CLOSED}),
    "length of 10 GB": (post(HOST, JSON, "Content-Length: 10000000000"), {413, CLOSED}),
    "blank before the colon": (post(HOST, JSON, "Transfer-Encoding : chunked", body=b"0\r\n\r\n"), MALFORMED),
    "unknown transfer coding": (post(HOST, JSON, "Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), {400, 411, CLOSED}),
    "coding after chunks": (
        post(HOST, JSON, "Transfer-Encoding: chunked, gzip", body=b"0\r\n\r\n"),
        {400, 411, CLOSED},
    ),
    "two transfer codings": (
        post(HOST, JSON, "Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=b"0\r\n\r\n"),
        {400, 411, CLOSED},
    ),
    "chunks in HTTP/1.0": (
        raw("POST /batch/start HTTP/1.0", HOST, JSON, "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        {400, 411, CLOSED},
    ),
    "folded line": (post(HOST, JSON, "X-A: one", " two"), MALFORMED),
    "carriage return alone": (post(HOST, JSON, "X-A: a\rX-B: b"), MALFORMED),
    "NUL in a header": (post(HOST, JSON, "X-A: a\0b"), MALFORMED),
    "header without a colon": (post(HOST, JSON, "nonsense"), MALFORMED),
    "header without a name": (post(HOST, JSON, ": value"), MALFORMED),
    "blank in a header's name": (post(HOST, JSON, "X A: b"), MALFORMED),
    "header of 1 MB": (post(HOST, JSON, f"X-A: {'a' * 2**20}"), {400, 431, CLOSED}),
    "5,000 headers": (post(HOST, JSON, *(f"X-{n}: a" for n in range(5_000))), {400, 431, CLOSED}),
    "no host": (post(JSON), {400}),
    "two hosts": (post(HOST, "Host: evil.example", JSON), {400}),
    "empty host": (post("Host:", JSON), {400}),
    "another's host": (post("Host: evil.example", JSON), {400, 403}),
    "host with a user": (post("Host: 127.0.0.1@evil.example", JSON), {400, 403}),
    "host with a path": (post("Host: 127.0.0.1/evil", JSON), {400, 403}),
    "host in half brackets": (post("Host: [::1", JSON), {400, 403}),
    "host with a list": (post("Host: 127.0.0.1, evil.example", JSON), {400, 403}),
    "another's address as the target": (
        raw("POST http://evil.example/batch/start HTTP/1.1", "Host: evil.example", JSON),
        {400, 403, 404},
    ),
    "foreign page": (post(HOST, JSON, "Origin: https://evil.example"), {403}),
    "page without an origin": (post(HOST, JSON, "Origin: null"), {403}),
    "through a proxy": (post(HOST, JSON, "X-Forwarded-For: 127.0.0.1"), {401, 403}),
    "through a proxy of RFC 7239": (post(HOST, JSON, "Forwarded: for=127.0.0.1"), {401, 403}),
    "token of nonsense": (post(HOST, JSON, "Authorization: Bearer \xff\xfe"), {400, 401, 403}),
    "token of 60 kB": (post(HOST, JSON, f"Authorization: Bearer {'a' * 60_000}"), {400, 401, 403, 431}),
}

CHUNKED = (HOST, JSON, "Transfer-Encoding: chunked")
CHUNKS: dict[str, tuple[bytes, set[int]]] = {
    name: (post(*CHUNKED, body=body), {400, 411, 413, 422, CLOSED})
    for name, body in {
        "chunk of no size": b"zz\r\n{}\r\n0\r\n\r\n",
        "chunk of negative size": b"-2\r\n{}\r\n0\r\n\r\n",
        "chunk of enormous size": b"FFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
        "chunk longer than its size": b"1\r\n{}\r\n0\r\n\r\n",
        "chunk with an endless extension": b"2;" + b"a" * 300_000 + b"\r\n{}\r\n0\r\n\r\n",
        "wrong models in a chunk": b'15\r\n{"models": ["vggish"]}\r\n0\r\n\r\n',
    }.items()
}

METHODS: dict[str, tuple[bytes, set[int]]] = {
    method: (request(method), {400, 405, CLOSED})
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "FOO", "P" * 1000)
} | {
    "OPTIONS": (request("OPTIONS", "/batch/start", "Origin: https://evil.example"), {200, 403, 405}),
    "OPTIONS *": (request("OPTIONS", "*"), {400, 404, 405, CLOSED}),
    "CONNECT": (raw("CONNECT 127.0.0.1:22 HTTP/1.1", HOST), {400, 404, 405, CLOSED}),
    "HTTP/0.9": (b"GET /batch/start\r\n\r\n", MALFORMED),
    "HTTP/3.7": (raw("POST /batch/start HTTP/3.7", HOST, JSON), MALFORMED),
    "HTTP/2 without asking": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), MALFORMED),
    "TLS": (bytes.fromhex("16030100c8010000c40303") + bytes(200), MALFORMED),
    "noise": (bytes(range(256)) * 40 + b"\r\n\r\n", MALFORMED),
    "lines of LF alone": (b"GET /batch/start HTTP/1.1\nHost: 127.0.0.1\n\n", {400, 405, CLOSED}),
}

HOSTILE = BODIES | PATHS | HEADERS | CHUNKS | METHODS
HEADLESS = ("TLS", "lines of LF alone")
"""The end of the headers does not come: the server would wait for ten seconds, as it does for every silent caller."""


def tell(port: int, data: bytes, *, end: bool = False) -> tuple[int, bytes]:
    """Send bytes; return the status and the content of what comes back, ``CLOSED`` when nothing does."""
    with closing(socket.create_connection(("127.0.0.1", port), SECONDS)) as line:
        try:
            line.sendall(data)
            if end:
                line.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough; what it said may lie here
        return _answer(line, data.partition(b" ")[0].decode("latin-1"))


def _answer(line: socket.socket, method: str = "POST") -> tuple[int, bytes]:
    reply = http.client.HTTPResponse(line, method=method)
    with closing(reply):
        try:
            reply.begin()
            return reply.status, reply.read()
        except (http.client.HTTPException, ConnectionResetError):
            return CLOSED, b""


def check_it_goes_on(bare: Bare) -> None:
    assert bare.go.get("/healthz").json["status"] == "ok"
    assert bare.go.progress() == {"status": "no_job"}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request_is_refused_starts_nothing_and_the_server_goes_on(bare: Bare, name: str) -> None:
    data, allowed = HOSTILE[name]
    status, content = tell(bare.instance.port, data, end=name in HEADLESS)
    check_it_goes_on(bare)
    assert status in allowed, content[:500]
    assert b"Traceback" not in content


@pytest.mark.parametrize("name", BODIES)
def test_refusal_of_a_body_is_a_json_object_with_a_sentence(bare: Bare, name: str) -> None:
    status, content = tell(bare.instance.port, BODIES[name][0])
    if status != CLOSED:
        assert isinstance(json.loads(content)["error"], str)


# Bodies that do not come


def test_body_that_breaks_off_starts_nothing(bare: Bare) -> None:
    status, _ = tell(bare.instance.port, post(HOST, JSON, "Content-Length: 100", body=b"{}"), end=True)
    assert status in MALFORMED
    check_it_goes_on(bare)


def test_too_large_a_body_is_refused_before_it_is_sent(bare: Bare) -> None:
    announced = post(HOST, JSON, "Content-Length: 20000000", "Expect: 100-continue")
    assert tell(bare.instance.port, announced)[0] in (413, 417)
    check_it_goes_on(bare)


def test_awaited_leave_to_send_a_body_is_given(bare: Bare) -> None:
    with closing(socket.create_connection(("127.0.0.1", bare.instance.port), SECONDS)) as line:
        line.sendall(post(HOST, JSON, "Content-Length: 10", "Expect: 100-continue"))
        assert line.recv(1000).startswith(b"HTTP/1.1 100 ")
        line.sendall(b'{"models":')
        assert _answer(line)[0] in NOT_JSON
    check_it_goes_on(bare)


def test_many_slow_bodies_do_not_keep_others_waiting(bare: Bare) -> None:
    slow = [_begin(bare.instance.port, post(HOST, JSON, "Content-Length: 100", body=b"{")) for _ in range(50)]
    try:
        check_it_goes_on(bare)
    finally:
        _end(slow)


def test_many_slow_headers_do_not_keep_others_waiting(bare: Bare) -> None:
    slow = [_begin(bare.instance.port, b"POST /batch/start HTTP/1.1\r\nHost: 127") for _ in range(200)]
    try:
        check_it_goes_on(bare)
    finally:
        _end(slow)


def test_callers_that_leave_at_once_do_no_harm(bare: Bare) -> None:
    _end([_begin(bare.instance.port, request("GET", "/batch/progress")) for _ in range(100)])
    check_it_goes_on(bare)


def test_second_request_hidden_in_a_body_is_not_heard(bare: Bare) -> None:
    hidden = post(HOST, JSON, "Content-Length: 0")
    status, _ = tell(bare.instance.port, request("POST", "/batch/cancel", body=hidden))
    assert status == 404
    check_it_goes_on(bare)


def _begin(port: int, data: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port), SECONDS)
    line.sendall(data)
    return line


def _end(lines: Iterable[socket.socket]) -> None:
    for line in lines:
        line.close()
