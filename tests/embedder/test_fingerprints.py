"""No vector of other weights than those that the caller's space holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embeddings.audio.pool import DecodePool
from embeddings.embedder.client import EmbedderClient, Heartbeat
from embeddings.embedder.embedder import Embedder
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.work import TrackOutcome
from embeddings.encoders.latent import LatentEncoder
from embeddings.errors import FingerprintChanged
from embeddings.spaces.lifecycle import fingerprint_of
from navembed_site.demo.checkpoints import make_tiny_checkpoint
from navembed_site.errors import NavembedError
from tests.embedder.conftest import asked
from tests.instances import EmbedderProcess


def fingerprint(model: str = "latent") -> str:
    return fingerprint_of(EmbedderClient().describe(model))


def heard(path: Path, fingerprints: Mapping[str, str]) -> list[Any]:
    """Everything that comes of embedding a track with Latent, and last the error if there is one."""
    events: list[Any] = []
    try:
        events.extend(EmbedderClient().embed([asked(path, "latent")], fingerprints))
    except NavembedError as error:
        events.append(error)
    return [event for event in events if not isinstance(event, Heartbeat)]


def vector(events: list[Any]) -> Any:
    (outcome,) = (event for event in events if isinstance(event, TrackOutcome))
    return outcome.vectors["latent"].vector


def test_the_same_fingerprint_is_embedded(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    assert vector(heard(songs["short.wav"], {"latent": fingerprint()})).any()


def test_another_fingerprint_is_refused_before_any_work(embedder: EmbedderProcess, songs: dict[str, Path]) -> None:
    EmbedderClient().unload("latent")
    [error] = heard(songs["short.wav"], {"latent": "f" * 64})
    assert isinstance(error, FingerprintChanged)
    assert error.permanent
    assert "weights or the recipe of latent have changed" in str(error)
    assert not any(model["loaded"] for model in EmbedderClient().status()["models"] if model["key"] == "latent")


def test_weights_replaced_under_a_loaded_model_are_loaded_anew(
    embedder: EmbedderProcess, songs: dict[str, Path], tmp_path: Path
) -> None:
    make_tiny_checkpoint("latent", tmp_path)
    embedder.restart(NAVEMBED_LATENT=str(tmp_path))
    old = fingerprint()
    before = vector(heard(songs["short.wav"], {"latent": old}))
    make_tiny_checkpoint("latent", tmp_path, seed=1)
    [error] = heard(songs["short.wav"], {"latent": old})
    assert isinstance(error, FingerprintChanged)
    after = vector(heard(songs["short.wav"], {"latent": fingerprint()}))
    assert not np.allclose(before, after, atol=1e-3)


def test_weights_replaced_between_check_and_load_give_no_vector(tmp_path: Path) -> None:
    make_tiny_checkpoint("latent", tmp_path / "weights")
    encoder = LatentEncoder(str(tmp_path / "weights"), "cpu")
    embedder = Embedder(ModelManager({"latent": encoder}, memory_bytes=1e12), DecodePool(1), tmp_path / "spool")
    expected = {"latent": fingerprint_of(encoder.describe())}
    try:
        embedder.require(expected)
        make_tiny_checkpoint("latent", tmp_path / "weights", seed=1)
        encoder.load()
        with pytest.raises(FingerprintChanged):
            embedder.require_loaded(["latent"], expected)
    finally:
        embedder.close()
