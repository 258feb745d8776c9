"""Bodies of requests: whole, of a known length, and not all of the server's threads waiting for them.

granian takes a body that breaks off for an empty one, which would start a job. And it waits for ever for one that
never comes, which costs a thread; so one caller may have only some of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

THREADS = 32
"""Of a web server. Idle ones cost next to nothing."""
AT_ONCE = 8
"""Bodies of one address that are waited for at a time."""
PLACE_SECONDS = 0.25

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Source(Protocol):
    """``wsgi.input`` as granian gives it: waits for as many bytes as it is asked for, or for the end."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self, size: int, /) -> bytes: ...


class Waiting:
    """Who waits for bodies, by address."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Count one more inside the block. Raises OSError when the address has its share already."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._counts[address] < AT_ONCE, PLACE_SECONDS):
                raise OSError("too many bodies from this address do not come")
            self._counts[address] += 1
        try:
            yield
        finally:
            with self._changed:
                self._counts[address] -= 1
                self._changed.notify_all()


class Body:
    """``wsgi.input`` of a request with ``length`` bytes of body. Reading raises OSError when they do not come."""

    def __init__(self, source: Source, length: int, address: str, waiting: Waiting) -> None:
        self._source = source
        self._left = length
        self._address = address
        self._waiting = waiting

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, fewer at the end; all that are left when it is negative."""
        wanted = self._wanted(size)
        return self._take(self._source.read, wanted, lambda part: len(part) == wanted)

    def readline(self, size: int = -1) -> bytes:
        """Return the bytes up to the end of the line, ``size`` of them at most."""
        wanted = self._wanted(size)
        return self._take(self._source.readline, wanted, lambda part: len(part) == wanted or part.endswith(b"\n"))

    def _wanted(self, size: int) -> int:
        return self._left if size < 0 else min(size, self._left)

    def _take(self, read: Callable[[int], bytes], wanted: int, is_whole: Callable[[bytes], bool]) -> bytes:
        if not wanted:
            return b""
        with self._waiting.place(self._address):
            part = read(wanted)
        if not is_whole(part):
            raise OSError("the body is shorter than its Content-Length")
        self._left -= len(part)
        return part


def with_whole_bodies(application: Application) -> Application:
    """Return ``application`` behind ``Body``."""
    waiting = Waiting()

    def guarded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        environ["wsgi.input"] = Body(environ["wsgi.input"], length, environ.get("REMOTE_ADDR", ""), waiting)
        return application(environ, start_response)

    return guarded
