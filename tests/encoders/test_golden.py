"""Our vectors of the twins against those that the authors' own code made of them (``golden/make.py`` says how)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.encoders.muq_text import MuqText
from embeddings.encoders.registry import encoder_class
from tests.encoders import twins
from tests.encoders.golden import make

GOLDEN = np.load(make.VECTORS)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """One minus the cosine."""
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    return float(1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("key", make.SECONDS)
def test_the_twins_have_the_names_that_the_authors_code_gives(key: str):
    assert make.digest(twins.state(key)) == json.loads(make.NAMES.read_text())[key]


@pytest.mark.parametrize("key", make.SECONDS)
def test_rows_are_those_of_the_authors(key: str, tmp_path: Path):
    encoder = encoder_class(key)(str(twins.make_offline_twin(key, tmp_path)), "cpu")
    encoder.load()
    segmenter, sound = encoder.segmenter(), make.audio(key, encoder.audio.channels)
    (item,) = [*segmenter.push(sound), *segmenter.finish()]
    assert distance(encoder.encode(item.samples[None])[0], GOLDEN[key]) < 1e-8


def test_texts_are_read_as_the_authors_do(tmp_path: Path):
    model = MuqText(str(twins.make_offline_twin("muq", tmp_path)), "cpu")
    model.load()
    for prompt, expected in zip(make.PROMPTS, GOLDEN["muq-text"], strict=True):
        assert distance(model.embed(prompt), expected) < 1e-8
