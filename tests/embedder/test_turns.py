"""Who may use the device next."""

from __future__ import annotations

import threading
import time

from embeddings.embedder.priority_lock import Turns


def wait_until_waiting(turns: Turns, thread: threading.Thread) -> None:
    thread.start()
    while not turns._condition._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)


def test_somebody_who_waits_goes_before_a_jobs_next_batch() -> None:
    turns = Turns()
    order: list[str] = []

    def interactive() -> None:
        with turns.interactive():
            order.append("upload")

    upload = threading.Thread(target=interactive)
    with turns.job():
        wait_until_waiting(turns, upload)
        order.append("first batch")
    with turns.job():
        order.append("second batch")
    upload.join()
    assert order == ["first batch", "upload", "second batch"]


def test_only_one_uses_the_device_at_a_time() -> None:
    turns = Turns()
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with turns.interactive() if number % 2 else turns.job():
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 200
    assert max(most) == 1


def test_a_batch_that_fails_gives_the_device_back() -> None:
    turns = Turns()
    for rank in (turns.job, turns.interactive):
        try:
            with rank():
                raise ValueError
        except ValueError:
            pass
    with turns.job():
        pass
