"""Encoded rows of one track and one model, until they are pooled."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEMORY_LIMIT = 256 * 2**20


class RowStore:
    """Rows of equal shape by index. Beyond ``memory_limit`` bytes they lie in a file.

    With a ``checkpoint`` path they lie in that file from the first row on, and a store opened there later
    still has them: a track of hours goes on where it was.
    """

    def __init__(self, folder: Path, *, checkpoint: str = "", memory_limit: int = MEMORY_LIMIT) -> None:
        self._folder = folder
        self._limit = memory_limit
        self._memory: dict[int, NDArray[np.float32]] = {}
        self._file = -1
        self._flags = -1
        self._shape: tuple[int, ...] = ()
        self._done: set[int] = set()
        if checkpoint:
            self._open_checkpoint(folder / checkpoint)

    def _open_checkpoint(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path.with_suffix(".rows"), os.O_RDWR | os.O_CREAT, 0o600)
        self._flags = os.open(path.with_suffix(".done"), os.O_RDWR | os.O_CREAT, 0o600)
        shape = path.with_suffix(".shape")
        if shape.is_file():
            self._shape = tuple(int(n) for n in shape.read_text().split(",") if n)
            flags = os.pread(self._flags, os.fstat(self._flags).st_size, 0)
            self._done = {index for index, flag in enumerate(flags) if flag}
        self._shape_file = shape

    def __contains__(self, index: int) -> bool:
        return index in self._done

    def put(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep ``row`` [… any shape]; all rows have the shape of the first."""
        if not self._shape:
            self._shape = row.shape
            if self._flags >= 0:
                self._shape_file.write_text(",".join(map(str, row.shape)) + ",")
        self._done.add(index)
        if self._file >= 0:
            self._write(index, row)
            return
        self._memory[index] = np.array(row, np.float32)
        if len(self._memory) * row.nbytes > self._limit:
            self._spill()

    def _write(self, index: int, row: NDArray[np.float32]) -> None:
        data = np.ascontiguousarray(row, np.float32).tobytes()
        os.pwrite(self._file, data, index * len(data))
        if self._flags >= 0:
            os.fdatasync(self._file)  # a flag must never survive a power loss without its row
            os.pwrite(self._flags, b"\1", index)

    def _spill(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        # O_TMPFILE has no name: any kill frees it.
        self._file = os.open(self._folder, os.O_RDWR | os.O_TMPFILE, 0o600)
        for index, row in self._memory.items():
            self._write(index, row)
        self._memory.clear()

    def rows(self) -> NDArray[np.float32]:
        """All rows [items, …] by index; memory-mapped when they lie in a file."""
        if self._file < 0:
            return np.stack([self._memory[index] for index in range(len(self._memory))])
        with os.fdopen(os.dup(self._file), "rb") as file:
            return np.memmap(file, np.float32, "r", shape=(len(self._done), *self._shape))

    def close(self) -> None:
        for descriptor in (self._file, self._flags):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._flags = -1
        self._memory.clear()


def forget_old_checkpoints(folder: Path, *, older_than: float) -> None:
    """Delete checkpoint files last written before ``older_than`` (Unix seconds)."""
    for path in folder.glob("*.*") if folder.is_dir() else ():
        if path.suffix in {".rows", ".done", ".shape"} and path.stat().st_mtime < older_than:
            path.unlink(missing_ok=True)
