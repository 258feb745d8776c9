"""The file of a backup: a plain tar of few members with fixed names, and a manifest of their hashes at its end.

A file without its manifest is one that was never finished. Vectors do not compress, so nothing is compressed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, cast

from navembed_site.errors import NavembedError
from navembed_site.terminal import size_text

FORMAT = 1
DATABASE, SETTINGS, MANIFEST = "database", "navembed.env", "manifest.json"
MANIFEST_BYTES = 2**20
PIECE = 2**20


class BackupError(NavembedError):
    """A backup cannot be made, or not be used; nothing was changed."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds. ``sha256``: of each member, filled in when it is written."""

    version: str
    engine: str
    """sqlite or postgresql."""
    created: str
    host: str
    counts: dict[str, int]
    """Rows by what they are."""
    migrations: list[str]
    """Those that the database has seen, as ``app.name``."""
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def write(path: Path, members: Mapping[str, Path], manifest: Manifest) -> None:
    """Write the files ``members`` and the manifest to the new file ``path``, down to the disk."""
    with path.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for name, source in members.items():
                with source.open("rb") as content:
                    reader = _HashingReader(content)
                    tar.addfile(_info(name, source.stat().st_size), reader)
                manifest.sha256[name] = reader.digest.hexdigest()
            text = json.dumps(asdict(manifest), indent=2).encode()
            tar.addfile(_info(MANIFEST, len(text)), io.BytesIO(text))
        file.flush()
        os.fsync(file.fileno())


def verify(path: Path) -> Manifest:
    """Read all of ``path`` and return its manifest. Raises BackupError when anything is not as it was written."""
    found: dict[str, str] = {}
    text = b""
    with _open(path) as tar:
        for member in tar:
            if member.name not in (DATABASE, SETTINGS, MANIFEST) or member.name in found:
                raise BackupError(f"{path} is no backup of navembed: it holds {member.name!r}")
            content = _content(tar, member)
            if member.name == MANIFEST:
                text = content.read(MANIFEST_BYTES)
            else:
                found[member.name] = hashlib.file_digest(content, "sha256").hexdigest()
    manifest = _parse(path, text)
    if manifest.sha256 != found or found.keys() != {DATABASE, SETTINGS}:
        raise BackupError(f"{path} is damaged: its content is not what its manifest says")
    return manifest


@contextmanager
def member(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open one member of a verified file for reading; yields it and its size in bytes."""
    with _open(path) as tar:
        info = tar.getmember(name)
        yield _content(tar, info), info.size


def require_free_disk(folder: Path, needed: int) -> None:
    """Raise BackupError, with the figures, when ``needed`` bytes do not fit on the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BackupError(f"{size_text(needed)} are needed in {folder}, which has {size_text(free)} free")


def sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _HashingReader:
    """Hashes what is read through it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._source.read(size)
        self.digest.update(piece)
        return piece


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


@contextmanager
def _open(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except tarfile.TarError as error:
        raise BackupError(f"{path} is no backup, or was cut off: {error}") from error
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror or error}") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> io.BufferedReader:
    if member.type != tarfile.REGTYPE or member.issparse():
        raise BackupError(f"{tar.name!s} is no backup of navembed: {member.name!r} is no plain file")
    return cast("io.BufferedReader", tar.extractfile(member))


def _parse(path: Path, text: bytes) -> Manifest:
    if not text:
        raise BackupError(f"{path} is incomplete: it has no manifest")
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise BackupError(f"{path} has format {values['format']}; this navembed reads format {FORMAT}")
        return Manifest(**values)
    except (ValueError, TypeError, KeyError) as error:
        raise BackupError(f"{path} is damaged: its manifest cannot be read") from error
