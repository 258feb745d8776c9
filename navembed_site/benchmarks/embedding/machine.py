"""What a measurement ran on, and what it is measured with."""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.embedder.host_memory import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    give_freed_memory_back,
    keep_freed_memory,
)


@dataclass(frozen=True)
class Cost:
    """Seconds on the clock, and of processors, those of child processes included."""

    wall: float
    cpu: float


def cost_of(action: Callable[[], object]) -> Cost:
    """Return what an action takes. A device's work is part of it: every action of ours ends with numbers here."""
    wall, cpu = time.perf_counter(), _cpu_seconds()
    action()
    return Cost(time.perf_counter() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    """Of this process and its children that live, the decoders."""
    ticks, own = 0, str(os.getpid())
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12]) if fields[1] == own else 0
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def memory_of(*, ours: bool) -> Iterator[None]:
    """Take memory as the embedder does inside the block, or as glibc settles to by itself: one measures both."""
    give_freed_memory_back()
    if ours:
        keep_freed_memory()
    else:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
            ctypes.CDLL(None).mallopt(M_TRIM_THRESHOLD, 64 * 2**20)
    yield


def describe(device: str) -> dict[str, Any]:
    """Return the date, the hardware and the versions."""
    import torch
    import transformers

    from embeddings.embedder.device import name_of

    return {
        "date": time.strftime("%Y-%m-%d"),
        "device": name_of(device),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor()
