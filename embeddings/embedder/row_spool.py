"""Encoded rows of one track and one model, until they are pooled."""

from __future__ import annotations

import glob
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class RowStore:
    """Rows of equal shape by index. Beyond ``memory_limit`` bytes they lie in a file, mapped into memory to be read.

    With a ``spool_name`` name they lie in a file of that name from the first row on, and a store opened there later
    still has them: a track of hours goes on where it was. Raises OSError when ``folder`` cannot hold them.
    """

    memory_limit = 256 * 2**20

    def __init__(self, folder: Path, *, spool_name: str = "") -> None:
        self._folder = folder
        self._memory: dict[int, NDArray[np.float32]] = {}
        self._file = -1
        self._flags = -1
        self._shape: tuple[int, ...] = ()
        self._done: set[int] = set()
        folder.mkdir(parents=True, exist_ok=True)
        if spool_name:
            self._open_spooled(spool_name)

    def _open_spooled(self, name: str) -> None:
        self._file = os.open(self._folder / f"{name}.rows", os.O_RDWR | os.O_CREAT, 0o600)
        self._flags = os.open(self._folder / f"{name}.done", os.O_RDWR | os.O_CREAT, 0o600)
        self._shape_file = self._folder / f"{name}.shape"
        with suppress(FileNotFoundError):
            self._shape = tuple(int(n) for n in self._shape_file.read_text().split(","))
            flags = os.pread(self._flags, os.fstat(self._flags).st_size, 0)
            self._done = {index for index, flag in enumerate(flags) if flag}

    def __contains__(self, index: int) -> bool:
        return index in self._done

    def put(self, index: int, row: NDArray[np.float32]) -> None:
        """Keep ``row`` [… any shape]; all rows have the shape of the first."""
        if not self._shape:
            self._shape = row.shape
            if self._flags >= 0:
                self._remember_shape()
        if self._file >= 0:
            self._write(index, row)
        else:
            self._memory[index] = np.array(row, np.float32)
            if len(self._memory) * row.nbytes > self.memory_limit:
                self._spill()
        self._done.add(index)

    def _remember_shape(self) -> None:
        partial = self._shape_file.with_suffix(".shape~")
        with partial.open("w") as file:
            file.write(",".join(map(str, self._shape)))
            file.flush()
            os.fdatasync(file.fileno())
        partial.replace(self._shape_file)

    def _write(self, index: int, row: NDArray[np.float32]) -> None:
        rest = np.ascontiguousarray(row, np.float32).reshape(-1).view(np.uint8).data
        offset = index * len(rest)
        while len(rest):
            written = os.pwrite(self._file, rest, offset)
            rest, offset = rest[written:], offset + written
        if self._flags >= 0:
            os.fdatasync(self._file)  # a flag must never survive a power loss without its row
            os.pwrite(self._flags, b"\1", index)

    def _spill(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as file:  # it has no name: any kill frees it
            self._file = os.dup(file.fileno())
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


def forget_spooled(folder: Path, track: str) -> None:
    """Delete all files whose names begin with ``track`` and a hyphen."""
    for path in folder.glob(f"{glob.escape(track)}-*"):
        path.unlink(missing_ok=True)


def forget_old_rows(folder: Path, *, older_than: float) -> None:
    """Delete files last written before ``older_than`` (Unix seconds)."""
    for path in folder.glob("*.*"):
        with suppress(FileNotFoundError):  # another device's embedder shares the folder
            if path.suffix in {".rows", ".done", ".shape", ".shape~"} and path.stat().st_mtime < older_than:
                path.unlink()
