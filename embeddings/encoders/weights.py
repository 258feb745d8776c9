"""Where a model's weights lie, and reading them without running anything that came with them."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embeddings.encoders.base import Encoder, is_folder
from embeddings.errors import WeightsMissing, WeightsUnusable

RANDOM_FILLS = frozenset({
    "uniform_", "normal_", "trunc_normal_",
    "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "xavier_normal_",
})  # fmt: skip
SOME = 4  # names that an error message lists


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
        """Return the first of ``names`` that exists. Raises WeightsMissing."""
        for name in names:
            if (self.folder / name).is_file():
                return self.folder / name
        raise WeightsMissing(f"{self.label} has no {' or '.join(names)}; `manage.py fetch_models` gets it")

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


def find_checkpoint(source: str) -> Checkpoint:
    """Return the local files of ``source``, a folder or a hub id; never downloads. Raises WeightsMissing."""
    if is_folder(source):
        folder = Path(source).expanduser()
        if not folder.is_dir():
            raise WeightsMissing(f"there is no folder {folder} with weights")
        return Checkpoint(source, folder)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for cache in places.hub_caches:
        try:
            snapshot = Path(snapshot_download(source, cache_dir=cache, local_files_only=True))
        except LocalEntryNotFoundError:
            continue
        except HFValidationError as error:
            raise WeightsMissing(f"{source!r} is neither a folder nor a hub id") from error
        return Checkpoint(source, snapshot, snapshot.name)
    raise WeightsMissing(f"the weights {source} are not on this machine; `manage.py fetch_models` downloads them")


def find_part(whole: Checkpoint, name: str) -> Checkpoint:
    """Return a checkpoint that ``whole`` names: a folder inside or beside its own, else a hub id."""
    folder = whole.folder
    for place in (folder / name, folder / Path(name).name, folder.parent / Path(name).name):
        if place.is_dir():
            return Checkpoint(name, place)
    return find_checkpoint(name)


def require_files(encoder: Encoder) -> None:
    """Look whether all files are there, reading no more than configs. Raises WeightsMissing, WeightsUnusable."""
    whole = find_checkpoint(encoder.source)
    needed = [(whole, encoder.files), *((find_part(whole, name), files) for name, files in encoder.parts().items())]
    for checkpoint, files in needed:
        for names in files:
            checkpoint.path(*names)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; hashed again only when its size or time has changed."""
    real, stat = path.resolve(), path.stat()
    key, stamp = str(real), [stat.st_size, stat.st_mtime_ns]
    known = _known_hashes()
    if known.get(key, [])[:2] != stamp:
        with real.open("rb") as file:
            known[key] = [*stamp, hashlib.file_digest(file, "sha256").hexdigest()]
        _remember_hashes(known)
    return str(known[key][2])


_hashes: dict[str, list[Any]] = {}


def _known_hashes() -> dict[str, list[Any]]:
    if places.hash_file is None:
        return _hashes
    try:
        return dict(json.loads(places.hash_file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _remember_hashes(known: dict[str, list[Any]]) -> None:
    if places.hash_file is None:
        return
    places.hash_file.parent.mkdir(parents=True, exist_ok=True)
    partial = places.hash_file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(known), encoding="utf-8")
    partial.replace(places.hash_file)


def read_tensors(path: Path, *, prefix: str = "", part: str = "", within: str = "") -> dict[str, Any]:
    """Return the tensors named ``prefix`` + ``part`` + …, without the prefix, in the CPU's memory.

    Reads safetensors, and torch files with ``weights_only``: nothing in the file is run. ``within`` names the
    entry of a torch file that holds them. Raises WeightsUnusable.
    """
    wanted = prefix + part
    with _as_unusable(path):
        found = _open_tensors(path, within)
        # A copy, so that neither the rest of the file nor its mapping stays in memory.
        tensors = {key.removeprefix(prefix): t.clone() for key, t in found.items() if key.startswith(wanted)}
    if not tensors:
        raise WeightsUnusable(f"{path} holds no weights named {prefix}{part}…")
    return {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}


def check_readable(path: Path) -> None:
    """Read the table of contents of a weights file. Raises WeightsUnusable."""
    with _as_unusable(path):
        _open_tensors(path)


@contextmanager
def _as_unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # unpickling, zip and safetensors errors have no common base
        raise WeightsUnusable(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error


def _open_tensors(path: Path, within: str = "") -> dict[str, Any]:
    """Return a file's tensors, mapped rather than read where its format allows."""
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".safetensors":
        return dict(load_file(path))
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    return dict(content[within] if within else content)


@contextmanager
def unfilled() -> Iterator[None]:
    """Build modules in this context without drawing their random weights: ``load_strictly`` gives them theirs.

    A large network would take half a minute and its memory twice.
    """
    from torch.overrides import TorchFunctionMode

    class Unfilled(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.__name__ in RANDOM_FILLS:  # of torch.nn.init and of tensors
                return args[0] if args else kwargs["tensor"]
            return func(*args, **(kwargs or {}))

    with Unfilled():
        yield


def load_strictly(network: Any, tensors: dict[str, Any], path: Path, *, unneeded: Sequence[str] = ()) -> None:
    """Give ``network`` exactly its weights. Names that begin with one of ``unneeded`` may be left over.

    Raises WeightsUnusable naming a few of those that are missing, left over, or of another shape.
    """
    needed = {key: tensor for key, tensor in tensors.items() if not key.startswith(tuple(unneeded))}
    try:
        missing, unexpected = network.load_state_dict(needed, strict=False, assign=True)
    except RuntimeError as error:
        problems = [line.strip() for line in str(error).splitlines()[1 : 1 + SOME]]
        raise WeightsUnusable(f"{path} is of another shape than its config says: {'; '.join(problems)}") from error
    for problem, names in (("lacks", missing), ("has unknown weights", unexpected)):
        if names:
            more = f" and {len(names) - SOME} more" if len(names) > SOME else ""
            raise WeightsUnusable(f"{path} {problem}: {', '.join(sorted(names)[:SOME])}{more}")
