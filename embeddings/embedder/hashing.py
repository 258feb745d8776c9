"""What files are known by: several at a time, each in a decoder, without decoding."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from embeddings.audio.pool import DecodePool
from embeddings.embedder.work import FileHash, failure_of
from embeddings.errors import AudioError


def hash_files(pool: DecodePool, paths: Sequence[str], should_stop: Callable[[], bool]) -> Generator[FileHash]:
    """Yield one answer for each path as it comes, in no order; a file that cannot be read is an answer.

    Occupies as many decoders as are free. Closing the generator, or ``should_stop()``, stops the work.
    """
    closed = threading.Event()

    def answer(path: str) -> FileHash:
        try:
            return FileHash(path, pool.audio_hash(path, should_stop=lambda: closed.is_set() or should_stop()))
        except AudioError as error:
            return FileHash(path, failure=failure_of(error))

    threads = ThreadPoolExecutor(pool.processes, thread_name_prefix="hash")
    try:
        for done in as_completed([threads.submit(answer, path) for path in paths]):
            yield done.result()
    finally:
        closed.set()
        threads.shutdown(cancel_futures=True)
