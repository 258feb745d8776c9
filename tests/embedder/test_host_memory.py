"""Freed memory is used again while there is work, and goes back to the system when there is none."""

from __future__ import annotations

from pathlib import Path

import psutil

from navembed_site.process.slow_calls import wait_for
from tests.embedder.conftest import asked
from tests.embedder.test_memory import embed
from tests.instances import EmbedderProcess


def page_faults(pid: int) -> int:
    """Return how often a process took a page from the system without reading a disk (``ru_minflt``)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def test_freed_memory_is_used_again(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    faults = []
    for number in range(4):
        before = page_faults(embedder.pid)
        embed([asked(songs["window.mp3"], id=str(number))])
        faults.append(page_faults(embedder.pid) - before)
    assert min(faults[1:]) < 50_000  # 300,000 when every block comes from the system


def test_an_embedder_without_work_gives_freed_memory_back(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    embed([asked(songs["long.m4a"])])
    held = psutil.Process(embedder.pid).memory_info().rss
    assert wait_for(lambda: psutil.Process(embedder.pid).memory_info().rss < held - 64 * 2**20, 60)
