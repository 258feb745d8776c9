"""Who may use the device next."""

from __future__ import annotations

import threading
import time

from embeddings.embedder.priority_lock import PriorityLock


def wait_until_waiting(device_lock: PriorityLock, thread: threading.Thread) -> None:
    thread.start()
    while not device_lock._condition._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)


def test_somebody_who_waits_goes_before_a_jobs_next_batch() -> None:
    device_lock = PriorityLock()
    order: list[str] = []

    def interactive() -> None:
        with device_lock.interactive():
            order.append("upload")

    upload = threading.Thread(target=interactive)
    with device_lock.job():
        wait_until_waiting(device_lock, upload)
        order.append("first batch")
    with device_lock.job():
        order.append("second batch")
    upload.join()
    assert order == ["first batch", "upload", "second batch"]


def test_only_one_uses_the_device_at_a_time() -> None:
    device_lock = PriorityLock()
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(50):
            with device_lock.interactive() if number % 2 else device_lock.job():
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
    device_lock = PriorityLock()
    for rank in (device_lock.job, device_lock.interactive):
        try:
            with rank():
                raise ValueError
        except ValueError:
            pass
    with device_lock.job():
        pass
