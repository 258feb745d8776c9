"""The three encoders over tiny checkpoints, loaded once per test run."""

from __future__ import annotations

from pathlib import Path

import pytest

from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import ENCODERS
from tests.instances import checkpoints

__all__ = ["checkpoints", "encoders"]


@pytest.fixture(scope="session")
def encoders(checkpoints: dict[str, Path]) -> dict[str, Encoder]:
    """All three, loaded on the CPU."""
    loaded = {encoder.key: encoder(str(checkpoints[encoder.key]), "cpu") for encoder in ENCODERS}
    for encoder in loaded.values():
        encoder.load()
    return loaded
