"""Bodies that do not come, or not whole."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

import pytest

from navembed_site import bodies
from navembed_site.bodies import Body, Waiting


def body(content: bytes, length: int) -> Body:
    return Body(io.BytesIO(content), length, "127.0.0.1", Waiting())


def test_a_whole_body_is_read_at_once_or_in_parts_and_never_beyond_its_length() -> None:
    assert body(b"abcdef", 5).read() == b"abcde"
    parts = body(b"abcdef", 5)
    assert [parts.read(2) for _ in range(4)] == [b"ab", b"cd", b"e", b""]


def test_lines_are_read_one_by_one() -> None:
    lines = body(b"one\ntwo\nthree", 10)
    assert [lines.readline() for _ in range(4)] == [b"one\n", b"two\n", b"th", b""]


@pytest.mark.parametrize("read", [Body.read, Body.readline])
def test_a_body_that_breaks_off_is_an_error(read: Callable[[Body], bytes]) -> None:
    with pytest.raises(OSError, match="shorter than its Content-Length"):
        read(body(b"abc", 5))


def test_an_address_waits_for_some_bodies_only_and_others_for_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "PLACE_SECONDS", 0.01)
    waiting, coming = Waiting(), threading.Event()

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            begun.release()
            assert coming.wait(300)
            return super().read(size)

    begun = threading.Semaphore(0)
    slow = [Body(Slow(b"a"), 1, "10.0.0.1", waiting) for _ in range(bodies.AT_ONCE)]
    threads = [threading.Thread(target=each.read) for each in slow]
    for thread in threads:
        thread.start()
        begun.acquire()
    with pytest.raises(OSError, match="too many bodies"):
        Body(io.BytesIO(b"a"), 1, "10.0.0.1", waiting).read()
    assert Body(io.BytesIO(b"a"), 1, "10.0.0.2", waiting).read() == b"a"
    coming.set()
    for thread in threads:
        thread.join()
    assert Body(io.BytesIO(b"a"), 1, "10.0.0.1", waiting).read() == b"a"
