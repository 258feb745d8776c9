"""How the embedder's own memory is taken from the system and given back; speaks to glibc alone.

PyTorch allocates and frees blocks of many megabytes for each operation. As glibc is by itself, each of them comes
from the system and goes back: half of the embedder's time went into page faults, two million for a track.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of glibc's malloc.h."""
LARGEST_KEPT = 2**30
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keeps freed blocks for the next use instead of returning them to the system, until ``give_freed_memory_back``.

    One heap for all threads: else each thread keeps one that the others cannot use. Called before there are others.
    """
    with suppress(OSError, AttributeError):  # another C library
        glibc = ctypes.CDLL(None)
        glibc.mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)
        glibc.mallopt(M_TRIM_THRESHOLD, NEVER)
        glibc.mallopt(M_ARENA_MAX, 1)


def give_freed_memory_back() -> None:
    """Return all that is free to the system, also between what is used: a model was unloaded, or work has ended."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
