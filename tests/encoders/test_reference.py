"""The fast path against the plain recipes in float64, and against the packages' own forward passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embeddings.encoders import base
from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from tests.encoders import reference
from tests.encoders.audio import noise

LENGTHS = {
    "muq": (1.3, 7, 29.9, 45, 121.3, 240.37),
    "mert": (1.3, 7, 29.9, 45, 121.3),
    "latent": (1.3, 7, 29.9, 45),  # a plain float64 UNet takes long
}


def cosine(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("key", "seconds"), [(key, s) for key, lengths in LENGTHS.items() for s in lengths])
def test_agrees_with_the_float64_recipe(
    key: str, seconds: float, encoders: dict[str, Encoder], checkpoints: dict[str, Path]
):
    track = noise(encoders[key].audio, seconds)
    expected = reference.reference_embedding(key, checkpoints[key], track)
    assert cosine(encoders[key].embed(track).vector, expected) >= 0.99999


def test_muq_rows_are_those_of_the_package(encoders: dict[str, Encoder], checkpoints: dict[str, Path]):
    track = noise(encoders["muq"].audio, 30)
    with torch.inference_mode():
        expected = reference.muq_package(str(checkpoints["muq"]), double=False)(wavs=torch.from_numpy(track))
    rows = encoders["muq"].encode(track.reshape(3, 240_000))
    np.testing.assert_allclose(rows.mean(axis=0), expected[0].numpy(), atol=1e-6)


def test_doubled_mono_has_the_embedding_of_both_channels(encoders: dict[str, Encoder], checkpoints: dict[str, Path]):
    track = np.repeat(noise(encoders["latent"].audio, 25)[:1], 2, axis=0)
    expected = reference.reference_embedding("latent", checkpoints["latent"], track)
    assert cosine(encoders["latent"].embed(track).vector, expected) >= 0.99999


def test_mert_rows_are_those_of_transformers(encoders: dict[str, Encoder], checkpoints: dict[str, Path]):
    window = noise(encoders["mert"].audio, 6)
    heard = torch.from_numpy((window - window.mean()) / np.sqrt(window.var() + 1e-7))
    with torch.inference_mode():
        network = reference.mert_package(str(checkpoints["mert"]), double=False)
        states = network(heard, output_hidden_states=True).hidden_states
    expected = torch.stack(states)[:, 0].mean(dim=1).flatten()
    np.testing.assert_allclose(encoders["mert"].encode(window)[0], expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("seconds", [2.0, 9.94, 9.95, 14.2, 33.3])
def test_latents_are_those_of_the_package(seconds: float, encoders: dict[str, Encoder], checkpoints: dict[str, Path]):
    from music2latent.inference import encode_audio_inference

    track, encoder = noise(encoders["latent"].audio, seconds), encoders["latent"]
    trainer = SimpleNamespace(gen=reference.latent_package(str(checkpoints["latent"]), double=False))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "CUDA is not available", UserWarning)
        expected = encode_audio_inference(track, trainer, 441_000, 1, device="cpu")
    segmenter = encoder.segmenter()
    rows = [encoder.encode(item.samples[None])[0] for item in (*segmenter.push(track), *segmenter.finish())]
    ours = np.concatenate(rows, axis=2)[:, :, : expected.shape[2]]
    np.testing.assert_allclose(ours, expected.numpy(), atol=2e-3)  # of values up to 16
    assert cosine(ours, expected.numpy()) > 0.999999


@pytest.mark.parametrize("key", ["muq", "mert", "latent"])
def test_a_batch_gives_what_single_items_give(key: str, encoders: dict[str, Encoder]):
    encoder, segmenter = encoders[key], encoders[key].segmenter()
    items = [item.samples for item in segmenter.push(noise(encoder.audio, 130))][:5]
    batch = encoder.encode(np.stack(items))
    assert len(batch) == len(items)
    for item, row in zip(items, batch, strict=True):
        assert cosine(encoder.encode(item[None])[0], row) >= 0.999999


@pytest.mark.parametrize("key", ["muq", "mert", "latent"])
def test_reduced_precision_keeps_the_direction(key: str, checkpoints: dict[str, Path], encoders: dict[str, Encoder]):
    reduced = type(encoders[key])(str(checkpoints[key]), "cpu")
    reduced.precision = reduced.reduced_precision
    reduced.load()
    track = noise(reduced.audio, 14)
    assert cosine(reduced.embed(track).vector, encoders[key].embed(track).vector) >= 0.999


@pytest.mark.parametrize(
    ("flags", "allowed", "expected"),
    [
        ("avx512f amx_bf16", "", "bfloat16"),
        ("avx512f amx_bf16", "AVX512_CORE_AMX", "bfloat16"),
        ("avx512f amx_bf16", "AVX512_CORE_BF16", "float32"),
        ("avx512f avx512_bf16", "", "float32"),
    ],
)
def test_a_cpu_computes_in_bfloat16_where_it_has_amx_and_onednn_may_use_it(
    flags: str, allowed: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    info = tmp_path / "cpuinfo"
    info.write_text(f"flags\t\t: {flags}\n")
    monkeypatch.setattr(base, "CPU_INFO", info)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", allowed or "ALL")
    found = {key: encoder_class(key)("nothing", "cpu").precision for key in MODEL_KEYS}
    assert found == {"muq": expected, "mert": expected, "latent": "float32"}


IN_BFLOAT16 = """
import json, sys
import numpy as np
from embeddings.encoders.registry import encoder_class
for key, source in json.loads(sys.argv[1]).items():
    exact, reduced = (encoder_class(key)(source, "cpu") for _ in range(2))
    exact.precision, reduced.precision = "float32", "bfloat16"
    track = np.random.default_rng(0).normal(0, 0.2, (1, 14 * 24_000)).astype(np.float32)
    vectors = []
    for encoder in (exact, reduced):
        encoder.load()
        vectors.append(encoder.embed(track).vector)
    assert vectors[0] @ vectors[1] >= 0.999, f"{key}: {vectors[0] @ vectors[1]}"
"""


def test_bfloat16_on_this_cpu_keeps_the_direction_with_all_that_onednn_may_use(checkpoints: dict[str, Path]):
    sources = json.dumps({key: str(checkpoints[key]) for key in ("muq", "mert")})
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "ALL"}
    ended = subprocess.run(
        [sys.executable, "-c", IN_BFLOAT16, sources], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_latents_beyond_float16_are_computed_again(checkpoints: dict[str, Path], encoders: dict[str, Encoder]):
    loud = 1e9 * noise(encoders["latent"].audio, 1)
    reduced = type(encoders["latent"])(str(checkpoints["latent"]), "cpu")
    reduced.precision = "float16"
    reduced.load()
    np.testing.assert_allclose(reduced.encode(loud[None]), encoders["latent"].encode(loud[None]), rtol=1e-4)


@pytest.mark.parametrize("key", ["muq", "mert", "latent"])
def test_silence_has_an_embedding(key: str, encoders: dict[str, Encoder]):
    audio = encoders[key].audio
    vector = encoders[key].embed(np.zeros((audio.channels, 5 * audio.sample_rate), np.float32)).vector
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
