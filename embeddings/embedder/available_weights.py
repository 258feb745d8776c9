"""Whether the configured models have weights: the embedder says so; without one, this machine is looked at."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings

from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description, Encoder
from embeddings.encoders.registry import encoder_class
from embeddings.errors import EmbedderUnavailable
from embeddings.weights.fetch import download_bytes
from embeddings.weights.locate import find_checkpoint, find_part, use_folders
from navembed_site.errors import NavembedError

ANSWER_SECONDS = 2.0


def problems_with(models: Iterable[str]) -> dict[str, str]:
    """Return, as a sentence, what keeps each of these models from being loaded; those without a problem are left out.

    Only looks whether all files are there: what is inside shows when a model is loaded.
    """
    try:
        known: dict[str, str] = EmbedderClient(timeout=ANSWER_SECONDS).status()["problems"]
    except EmbedderUnavailable:
        known = {model: problem_with(_encoder(model)) for model in models}
    return {model: known[model] for model in models if known.get(model)}


def problem_with(encoder: Encoder) -> str:
    """Return why the encoder's files cannot be used; empty when all are on this machine."""
    try:
        _require_files(encoder)
    except NavembedError as error:
        return str(error)
    return ""


def _require_files(encoder: Encoder) -> None:
    """Read no more than configs. Raises WeightsMissing, WeightsUnusable."""
    whole = find_checkpoint(encoder.source, encoder.files)
    whole.require(encoder.files)
    for name, files in encoder.parts().items():
        find_part(whole, name, files).require(files)


def described_here(model: str) -> Description:
    """Return what the weights on this machine make of a model. Raises WeightsMissing, WeightsUnusable."""
    return _encoder(model).describe()


def download_size(model: str) -> int | None:
    """Return how many bytes `fetch_models` would download; 0 when all is here, None when nobody knows."""
    return download_bytes(_encoder(model))


def _encoder(model: str) -> Encoder:
    use_folders(checkpoints=settings.CHECKPOINT_DIR, cache=settings.CACHE_DIR)
    return encoder_class(model)(settings.MODEL_SOURCES[model], "cpu")
