"""``manage.py benchmark embedding`` on short tracks with tiny models; its times say nothing here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import call_command

from embeddings.embedder.pipeline import Pipeline
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.benchmarks.embedding import replaced
from navembed_site.benchmarks.embedding.measure import Bench, Effort, bench
from navembed_site.benchmarks.embedding.sizes import make_checkpoints

SECONDS = 14.0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(Effort(seconds=(SECONDS,), device="cpu"), tmp_path_factory.mktemp("bench")) as made:
        yield made


def test_both_algorithms_make_the_same_vector(made: Bench) -> None:
    path = made.files[SECONDS]
    [ours] = [
        event
        for event in Pipeline(made.manager, made.pool, made.spool).embed([TrackRequest("1", str(path), MODEL_KEYS)])
        if isinstance(event, TrackOutcome)
    ]
    for key, encoder in made.encoders.items():
        assert replaced.embed(encoder, str(path)) @ ours.vectors[key].vector > 0.9999, key


def test_ratios_and_the_machine_are_reported(tmp_path: Path) -> None:
    out = StringIO()
    options = ("--against-replaced", "--runs", "1", "--seconds", str(SECONDS), "--device", "cpu", "--json")
    call_command("benchmark", "embedding", "decode", "host", "models", *options, folder=tmp_path, stdout=out)
    found = json.loads(out.getvalue())
    figures: dict[str, dict[str, Any]] = {figure["what"]: figure for figure in found["figures"]}
    assert all(figure["value"] > 0 for figure in figures.values())
    assert {what for what, figure in figures.items() if figure["speedup"]} == {
        f"decode {SECONDS:g} s for all models",
        *(f"{name}, {SECONDS:g} s" for name in (*MODEL_KEYS, "all models")),
    }
    assert {"processor", "threads", "torch", "load"} <= found["machine"].keys()


def test_middle_models_are_whole_checkpoints(tmp_path: Path) -> None:
    from embeddings.encoders.registry import encoder_class

    for key, folder in make_checkpoints(tmp_path, "middle").items():
        encoder = encoder_class(key)(str(folder), "cpu")
        encoder.load()
        noise = np.random.default_rng(0).normal(0, 0.1, (encoder.audio.channels, encoder.audio.sample_rate))
        assert np.isfinite(encoder.embed(noise.astype(np.float32)).vector).all()
