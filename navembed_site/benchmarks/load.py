"""``python -m navembed_site.benchmarks.load``: how long one address takes, asked again and again.

A process of its own, of one thread, which sends bytes that are ready and looks only at what it must: it takes as
little as possible of the processors that the server needs. Each connection asks again when it has its answer.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

MOST_SECONDS = 60.0
MOST_CONNECTIONS = 64
SILENCE_SECONDS = 30.0
PIECE = 2**16
OK, NOT_MODIFIED = 200, 304


@dataclass
class Load:
    """What came of it. ``milliseconds`` are the 50th and 99th percentile and the longest."""

    seconds: float
    answers: int
    unchanged: int
    """Answers 304, of those."""
    errors: dict[str, int]
    milliseconds: tuple[float, float, float]


@dataclass
class Caller:
    """A connection that waits for an answer since ``asked``."""

    line: socket.socket
    asked: float = 0.0
    got: bytes = b""
    tag: bytes = b""
    """The last ETag, if it is to be sent."""


@dataclass
class Tally:
    tagged: bool
    times: list[float] = field(default_factory=list)
    unchanged: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def count(self, caller: Caller, head: bytes) -> None:
        self.times.append(time.perf_counter() - caller.asked)
        status = int(head[9:12])
        self.unchanged += status == NOT_MODIFIED
        if status not in (OK, NOT_MODIFIED):
            self.errors[f"status {status}"] += 1
        if self.tagged:
            caller.tag = _value(head, b"etag")


def run(port: int, request: bytes, *, connections: int, seconds: float, tagged: bool) -> Load:
    """Ask for so many seconds over so many connections; ``tagged``: with the ETag of the answer before.

    ``request`` lacks the empty line at its end.
    """
    tally = Tally(tagged)
    began = time.perf_counter()
    end = began + min(seconds, MOST_SECONDS)
    with selectors.DefaultSelector() as selector:
        for _ in range(min(connections, MOST_CONNECTIONS)):
            caller = Caller(socket.create_connection(("127.0.0.1", port), SILENCE_SECONDS))
            selector.register(caller.line, selectors.EVENT_READ, caller)
            _ask(caller, request)
        while (now := time.perf_counter()) < end:
            ready = selector.select(SILENCE_SECONDS)
            if not ready or not selector.get_map():
                tally.errors["no answer"] += 1
                break
            for key, _ in ready:
                if not _hear(key.data, tally):
                    tally.errors["connection closed"] += 1
                    selector.unregister(key.fileobj)
                    key.data.line.close()
                elif not key.data.got:
                    _ask(key.data, request)
        taken = now - began
        for key in list(selector.get_map().values()):
            key.data.line.close()
    return Load(taken, len(tally.times), tally.unchanged, dict(tally.errors), _percentiles(tally.times))


def _ask(caller: Caller, request: bytes) -> None:
    tag = b"If-None-Match: " + caller.tag + b"\r\n" if caller.tag else b""
    caller.asked = time.perf_counter()
    caller.line.sendall(request + tag + b"\r\n")


def _hear(caller: Caller, tally: Tally) -> bool:
    """Take what has come; a whole answer is counted and forgotten. Return whether the connection stands."""
    try:
        part = caller.line.recv(PIECE)
    except OSError:
        return False
    caller.got += part
    head, blank, body = caller.got.partition(b"\r\n\r\n")
    if part and blank and len(body) >= int(_value(head, b"content-length") or 0):
        tally.count(caller, head)
        caller.got = b""
    return bool(part)


def _value(head: bytes, name: bytes) -> bytes:
    """Return a header's value, empty without it; ``name`` in small letters."""
    start = head.lower().find(b"\r\n" + name + b": ")
    return head[start + len(name) + 4 :].partition(b"\r\n")[0] if start >= 0 else b""


def _percentiles(times: Sequence[float]) -> tuple[float, float, float]:
    if not times:
        return 0.0, 0.0, 0.0
    ordered = sorted(1000 * each for each in times)
    return ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1]


def main() -> int:
    """Read the request from the standard input and print what came of it as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tagged", action="store_true")
    options = parser.parse_args()
    json.dump(asdict(run(request=sys.stdin.buffer.read(), **vars(options))), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
