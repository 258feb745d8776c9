"""What a GPU may do otherwise than the CPU: precision, memory that runs out, a device that is lost.

``NAVEMBED_TEST_DEVICE`` names the device, by default the CPU, which then computes in a GPU's precision
(``scripts/gpu_benchmark.sh``).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embeddings.encoders.base import AudioFormat, Encoder, Waveform
from embeddings.encoders.gathering import Gatherer
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from tests.encoders.audio import noise, piece
from tests.instances import shared_checkpoints

DEVICE = os.environ.get("NAVEMBED_TEST_DEVICE", "cpu")
SECONDS = 14


def silence_at_the_ends(audio: AudioFormat) -> Waveform:
    quiet = np.zeros((audio.channels, 4 * audio.sample_rate), np.float32)
    return np.concatenate([quiet, noise(audio, SECONDS - 8), quiet], axis=1)


def speech(audio: AudioFormat) -> Waveform:
    """Bursts of a voiced tone between pauses."""
    voiced = piece(audio, SECONDS, pitch=120, beat=4, grit=0.005)
    syllables = np.arange(voiced.shape[1]) // (audio.sample_rate // 5) % 3 > 0
    return voiced * syllables.astype(np.float32)


KINDS: dict[str, Callable[[AudioFormat], Waveform]] = {
    "noise": lambda audio: noise(audio, SECONDS),
    "tones": lambda audio: piece(audio, SECONDS, pitch=220, beat=2, grit=0.0),
    "silence at the ends": silence_at_the_ends,
    "speech": speech,
    "loud and clipped": lambda audio: np.clip(20 * noise(audio, SECONDS), -1, 1),
}


@pytest.fixture(scope="module")
def pairs() -> dict[str, tuple[Encoder, Encoder]]:
    """By key: in the device's precision, and in float32 on the CPU."""
    found = {}
    for key in MODEL_KEYS:
        reduced, exact = (encoder_class(key)(str(shared_checkpoints()[key]), device) for device in (DEVICE, "cpu"))
        reduced.precision = reduced.reduced_precision
        reduced.load()
        exact.load()
        found[key] = reduced, exact
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", MODEL_KEYS)
def test_reduced_precision_keeps_the_direction(key: str, kind: str, pairs: dict[str, tuple[Encoder, Encoder]]) -> None:
    reduced, exact = pairs[key]
    track = KINDS[kind](exact.audio)
    assert reduced.embed(track).vector @ exact.embed(track).vector >= 0.999


def test_the_fingerprint_does_not_depend_on_precision(pairs: dict[str, tuple[Encoder, Encoder]]) -> None:
    for reduced, exact in pairs.values():
        assert reduced.precision != exact.precision
        assert reduced.describe().fingerprint == exact.describe().fingerprint


def test_what_was_sent_ahead_arrives_whole() -> None:
    gatherer, track = Gatherer(DEVICE), noise(AudioFormat(24_000, 1), 240).copy()
    items = [track[0, start : start + 720_000] for start in range(0, 5_000_000, 120_000)]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(gatherer.send, items))
    np.testing.assert_array_equal(gatherer.batch(items).cpu().numpy(), np.stack(items))


OUT_OF_MEMORY = """
import sys, numpy as np, resource, torch
from embeddings.embedder.model_manager import ModelManager
from embeddings.encoders.latent import LatentEncoder
device, folder = sys.argv[1:]
encoder = LatentEncoder(folder, device)
manager = ModelManager({"latent": encoder}, memory_bytes=1e15)
items = [np.random.default_rng(n).normal(0, .1, (2, 440_000)).astype(np.float32) for n in range(8)]
alone = manager.encode("latent", items[:1])
if device == "cpu":
    taken = 1024 * int(open("/proc/self/status").read().partition("VmSize:")[2].split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (taken + 300 * 2**20, -1))
else:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 200 * 2**20) / total)
rows = manager.encode("latent", items)
assert manager.batch_size("latent") < 8, "nothing ran out"
assert np.allclose(rows[0], alone[0], atol=1e-2) and len(rows) == 8
"""


def test_a_batch_that_does_not_fit_is_halved() -> None:
    run(OUT_OF_MEMORY)


LOST = """
import sys, torch
from embeddings.embedder.device import is_lost
device = sys.argv[1]
try:
    torch.zeros(1, device=device)[torch.tensor([5], device=device)].cpu()
except RuntimeError as error:
    assert is_lost(error), error
else:
    raise SystemExit("the device has survived an index out of range")
"""


if DEVICE.startswith("cuda"):  # nothing else can be lost in this way

    def test_a_lost_device_is_recognised() -> None:
        run(LOST)


def run(program: str) -> None:
    """Run Python in a process that may be ruined by it."""
    command = [sys.executable, "-W", "ignore", "-c", program, DEVICE, str(shared_checkpoints()["latent"])]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "navembed_site.settings", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=Path.cwd(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
