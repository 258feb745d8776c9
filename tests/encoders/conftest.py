"""Tiny checkpoints of the three models, made once per test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from embeddings.demo.checkpoints import make_tiny_checkpoints
from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import ENCODERS


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_tiny_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def encoders(checkpoints: dict[str, Path]) -> dict[str, Encoder]:
    """All three, loaded on the CPU."""
    loaded = {encoder.key: encoder(str(checkpoints[encoder.key]), "cpu") for encoder in ENCODERS}
    for encoder in loaded.values():
        encoder.load()
    return loaded
