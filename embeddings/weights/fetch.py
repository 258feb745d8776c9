"""What of a model's weights is missing, and whether what is here is right. Nothing else in navembed downloads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embeddings.encoders.base import Encoder
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights import published
from embeddings.weights.damage import damage
from embeddings.weights.hub import RemoteFile, download, look_up
from embeddings.weights.hub_cache import is_as_the_hub_said
from embeddings.weights.locate import Checkpoint, Files, find_checkpoint, find_part, is_folder, sha256

Find = Callable[[], Checkpoint]
LookUp = Callable[[str, tuple[str, ...]], RemoteFile]


@dataclass(frozen=True)
class FetchedFile:
    """A file of a model that is on this machine and has been checked."""

    path: str
    bytes: int
    sha256: str
    published: bool | None
    """Whether it is the file that was published; None where nobody has told its hash, or another was asked for."""


def fetch_model(encoder: Encoder) -> list[FetchedFile]:
    """Download what is missing or damaged of one model, then check all of it; a folder is only checked.

    Raises WeightsMissing with the reason when a file cannot be had, WeightsUnusable when it is damaged or of
    another network.
    """
    for file in missing_files(encoder):
        download(file)
    return check_model(encoder)


def missing_files(encoder: Encoder, look_up: LookUp = look_up) -> list[RemoteFile]:
    """Return what must be downloaded: what is not here, or is damaged. Asks the hub only about these.

    Configs are downloaded at once: they are small, and name other checkpoints. Raises as ``fetch_model``.
    """
    missing = _missing(encoder.source, encoder.files, _whole(encoder), look_up)
    configs = [file for file in missing if file.name.endswith(".json")]
    for config in configs:
        download(config)
    for name, files, find in _parts(encoder):
        missing += _missing(name, files, find, look_up)
    return [file for file in missing if file not in configs]


def _missing(source: str, files: Files, find: Find, look_up: LookUp) -> list[RemoteFile]:
    try:
        _require_right(find().require(files))
    except (WeightsMissing, WeightsUnusable) as error:
        if is_folder(source):
            raise
        problem = error
    else:
        return []
    try:
        remote = [look_up(source, names) for names in files]
    except WeightsMissing as error:
        if isinstance(problem, WeightsUnusable):
            raise WeightsUnusable(f"{problem} That was tried: {error}") from error
        raise
    return [file for file in remote if not _is_right(file.link)]


def check_model(encoder: Encoder) -> list[FetchedFile]:
    """Prove all files of a model by their hashes, and that the weights are those of its network.

    Raises WeightsMissing, WeightsUnusable.
    """
    paths = [*_whole(encoder)().require(encoder.files[:-1]), encoder.weights_file()]
    found = [(encoder.source, path) for path in paths]
    found += [(name, path) for name, files, find in _parts(encoder) for path in find().require(files)]
    _require_right(path for _, path in found)
    encoder.describe()
    encoder.verify()
    return [_checked(source, path) for source, path in found]


def _require_right(paths: Iterable[Path]) -> None:
    """Raise WeightsUnusable for a file that is not what the hub said."""
    for path in paths:
        if not _is_right(path):
            raise WeightsUnusable(
                f"{path} is damaged: its SHA-256 is not what the hub said. `manage.py fetch_models` gets it again."
            )


def _is_right(path: Path) -> bool:
    return path.is_file() and not damage(path) and is_as_the_hub_said(path, sha256(path))


def _checked(source: str, path: Path) -> FetchedFile:
    digest = sha256(path)
    return FetchedFile(str(path), path.stat().st_size, digest, published.is_published(source, path.name, digest))


def _whole(encoder: Encoder) -> Find:
    return partial(find_checkpoint, encoder.source, encoder.files)


def _parts(encoder: Encoder) -> list[tuple[str, Files, Find]]:
    """Return the checkpoints that a model's config names: the name, the files needed, and how to find it here."""
    parts = encoder.parts()
    if not parts:
        return []
    whole = find_checkpoint(encoder.source, encoder.files)
    return [(name, files, partial(find_part, whole, name, files)) for name, files in parts.items()]


def download_bytes(encoder: Encoder) -> int | None:
    """Return how much ``fetch_models`` would download of a model, from what is known without asking the hub.

    0 when all is here; None when something is missing of a checkpoint whose sizes are not known.
    """
    try:
        parts = _parts(encoder)
    except (WeightsMissing, WeightsUnusable):
        names = published.repository(published.split(encoder.source)[0]).parts
        needed = {name: published.files(name) for name in names}
        parts = [(name, files, partial(find_checkpoint, name, files)) for name, files in needed.items()]
    sizes = [_missing_bytes(*each) for each in [(encoder.source, encoder.files, _whole(encoder)), *parts]]
    return None if None in sizes else sum(size for size in sizes if size)


def _missing_bytes(source: str, files: Files, find: Find) -> int | None:
    try:
        find().require(files)
    except (WeightsMissing, WeightsUnusable):
        if is_folder(source):
            return 0  # its owner fills it
        return sum(file.bytes for file in published.repository(published.split(source)[0]).files.values()) or None
    return 0
