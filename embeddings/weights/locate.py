"""Where a model's weights lie, and which file they are."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights import hub_cache, published
from embeddings.weights.damage import damage

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
Files = tuple[tuple[str, ...], ...]
"""What is needed of a checkpoint: of each group the first file that exists."""


@dataclass
class Places:
    """Where to look. ``None`` is the hub library's own cache in the user's home."""

    hub_caches: tuple[Path | None, ...] = (None,)
    hash_file: Path | None = None


places = Places()


def use_folders(*, checkpoints: Path, cache: Path) -> None:
    """Look for downloads in ``checkpoints`` before the user's own hub cache; remember hashes in ``cache``."""
    places.hub_caches = (checkpoints, None)
    places.hash_file = cache / "weights.json"


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a model's files."""

    source: str
    folder: Path
    revision: str = ""

    @property
    def label(self) -> str:
        """Hub id with revision, or the folder."""
        return f"{self.source}@{self.revision}" if self.revision else str(self.folder)

    def path(self, *names: str) -> Path:
        """Return the first of ``names`` that exists and is whole. Raises as ``paths``."""
        return self.paths(*names)[0]

    def paths(self, *names: str) -> list[Path]:
        """Return those of ``names`` that exist and are whole. Raises WeightsMissing, WeightsUnusable for none."""
        found = [self.folder / name for name in names if (self.folder / name).is_file()]
        if not found:
            mend = "`manage.py fetch_models` gets it" if self.revision else "copy it there"
            raise WeightsMissing(f"{self.label} has no {' or '.join(names)}; {mend}")
        damages = {path: damage(path) for path in found}
        if all(damages.values()):
            raise WeightsUnusable(" ".join(damages.values()))
        return [path for path in found if not damages[path]]

    def has(self, files: Files) -> bool:
        """Whether there is one of each group."""
        return all(any((self.folder / name).is_file() for name in names) for names in files)

    def require(self, files: Files) -> list[Path]:
        """Return one of each group. Raises as ``paths``."""
        return [self.path(*names) for names in files]

    def json(self, name: str = "config.json") -> dict[str, Any]:
        """Return a JSON object among the files. Raises WeightsMissing, WeightsUnusable."""
        path = self.path(name)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise WeightsUnusable(f"{path} is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise WeightsUnusable(f"{path} is not a JSON object")
        return content


def find_checkpoint(source: str, files: Files) -> Checkpoint:
    """Return the folder of ``source``, a folder or a hub id, on this machine; never downloads.

    Of several downloads it is the best that has one of each group of ``files``; it may lack some where none has all.
    Raises WeightsMissing when nothing of it is here.
    """
    if is_folder(source):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise WeightsMissing(f"there is no folder {folder} with weights")
        return Checkpoint(source, folder)
    name, _ = published.split(source)
    if not HUB_ID.fullmatch(name):
        raise WeightsMissing(f"{source!r} is neither a folder nor a hub id")
    found = [Checkpoint(name, folder, folder.name) for folder in hub_cache.snapshots(source, places.hub_caches)]
    if not found:
        raise WeightsMissing(f"the weights {source} are not on this machine; `manage.py fetch_models` downloads them")
    return next((each for each in found if each.has(files)), found[0])


def find_part(whole: Checkpoint, name: str, files: Files) -> Checkpoint:
    """Return a checkpoint that ``whole`` names: a folder inside or beside its own, else a hub id."""
    folder = whole.folder
    for place in (folder / name, folder / Path(name).name, folder.parent / Path(name).name):
        if place.is_dir():
            return Checkpoint(name, place)
    return find_checkpoint(name, files)


def is_folder(source: str) -> bool:
    """Whether ``source`` names a local folder rather than a hub id."""
    return Path(source).expanduser().is_absolute() or Path(source).is_dir()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; hashed again only when its size or time has changed."""
    real = path.resolve()

    def digest() -> str:
        with real.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return remembered(str(real), stamp(path), digest)


def stamp(path: Path) -> list[int]:
    """Return what changes with a file's content: its size and time."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def remembered(question: str, stamps: list[int], answer: Callable[[], str]) -> str:
    """Return what ``answer`` gives, asked again only when ``stamps`` have changed."""
    entry = _known().get(question, [])
    if entry[:-1] != stamps:
        entry = [*stamps, answer()]
        _remember({**_known(), question: entry})  # others may have written meanwhile
    return str(entry[-1])


_memory: dict[str, list[Any]] = {}


def _known() -> dict[str, list[Any]]:
    if places.hash_file is None:
        return _memory
    try:
        return dict(json.loads(places.hash_file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _remember(known: dict[str, list[Any]]) -> None:
    if places.hash_file is None:
        _memory.update(known)
        return
    places.hash_file.parent.mkdir(parents=True, exist_ok=True)
    partial = places.hash_file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(known), encoding="utf-8")
    partial.replace(places.hash_file)
