"""Downloading a model's weights, and checking those that are here. Nothing else in navembed downloads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embeddings.encoders import weights
from embeddings.encoders.base import Encoder, Files
from embeddings.encoders.tensors import check_readable
from embeddings.errors import WeightsMissing, WeightsUnusable

WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt"}


@dataclass(frozen=True)
class FetchedFile:
    """A file of a model that is on this machine and has been checked."""

    path: str
    bytes: int
    sha256: str


def fetch_model(encoder: Encoder) -> list[FetchedFile]:
    """Download what is not here yet of one model, then check all of it; a folder is only checked.

    Raises WeightsMissing with the reason when a file cannot be had, WeightsUnusable when it is damaged or of
    another network.
    """
    checkpoints = [_fetch(encoder.source, encoder.files)]
    whole = weights.find_checkpoint(encoder.source)
    for name, files in encoder.parts().items():
        try:
            part = weights.find_part(whole, name)
            checkpoints.append([part.path(*group) for group in files])
        except WeightsMissing:
            checkpoints.append(_fetch(name, files))
    encoder.describe()
    return [_check(path) for paths in checkpoints for path in paths]


def _fetch(source: str, files: Files) -> list[Path]:
    try:
        checkpoint = weights.find_checkpoint(source)
        return [checkpoint.path(*group) for group in files]
    except WeightsMissing:
        if weights.is_folder(source):
            raise
    return [_download(source, group) for group in files]


def _download(source: str, names: tuple[str, ...]) -> Path:
    """Download the first of ``names`` that the repository has."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
    )

    for name in names:
        try:
            return Path(hf_hub_download(source, name, cache_dir=weights.places.hub_caches[0]))
        except RemoteEntryNotFoundError:
            continue
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise WeightsMissing(
                f"{source} could not be downloaded: {reason} Without a way to huggingface.co, copy its files here "
                "and set the model's variable to the folder."
            ) from error
    raise WeightsMissing(f"{source} has no {' or '.join(names)}: is it the right model?")


def _check(path: Path) -> FetchedFile:
    """Hash a file, and open it when it holds weights. Raises WeightsUnusable."""
    digest = weights.sha256(path)
    named = path.resolve().name
    if re.fullmatch("[0-9a-f]{64}", named) and named != digest:  # the hub's cache names large files by their hash
        raise WeightsUnusable(f"{path} is damaged: its SHA-256 is {digest}. Delete it and fetch it again.")
    if path.suffix in WEIGHT_SUFFIXES:
        check_readable(path)
    return FetchedFile(str(path), path.stat().st_size, digest)
