"""How fast tracks become vectors, stage by stage, beside the algorithm that was replaced."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from embeddings.audio.pool import DecodePool
from embeddings.embedder.device import choose_device
from embeddings.embedder.model_manager import ModelManager
from embeddings.embedder.pipeline import Pipeline
from embeddings.embedder.work import TrackOutcome, TrackRequest
from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import ENCODERS
from navembed_site.benchmarks.embedding import replaced
from navembed_site.benchmarks.embedding.machine import Cost, cost_of, memory_of
from navembed_site.benchmarks.embedding.sizes import make_checkpoints
from navembed_site.benchmarks.scratch import StepFailed
from navembed_site.demo.encode import write_audio

RATE = 44_100
PRODUCT = 4_096  # rows of the matrices whose product tells what a device can do
PRODUCT_ON_CPU = 1_024


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    size: str = "tiny"
    seconds: tuple[float, ...] = (240.0,)
    """Lengths of the tracks."""
    runs: int = 3
    device: str = "auto"
    against_replaced: bool = False


@dataclass(frozen=True)
class Figure:
    """One measured thing, a median. ``speedup`` is that of the clock, ``speedup_cpu`` that of processors."""

    what: str
    value: float
    unit: str
    cpu: float | None = None
    replaced: float | None = None
    replaced_cpu: float | None = None
    wanted: float | None = None

    @property
    def speedup(self) -> float | None:
        return self.replaced / self.value if self.replaced else None

    @property
    def speedup_cpu(self) -> float | None:
        return self.replaced_cpu / self.cpu if self.replaced_cpu and self.cpu else None


class Bench:
    """Files, checkpoints, and the embedder's own parts in this process."""

    def __init__(self, folder: Path, effort: Effort) -> None:
        self.effort = effort
        self.device = choose_device(effort.device)
        self.checkpoints = make_checkpoints(folder / "weights", effort.size)
        self.encoders = {each.key: each(str(self.checkpoints[each.key]), self.device) for each in ENCODERS}
        self.manager = ModelManager(self.encoders, memory_bytes=1e15, idle_seconds=1e9)
        self.pool = DecodePool(2)
        self.spool = folder / "spool"
        self.files = {seconds: folder / f"{seconds:g}.flac" for seconds in effort.seconds}
        for seed, (seconds, path) in enumerate(self.files.items()):
            noise = np.random.default_rng(seed).normal(0, 0.1, (2, int(seconds * RATE))).astype(np.float32)
            write_audio(path, noise, RATE)

    def load(self, encoder: Encoder) -> None:
        with self.manager.use(encoder.key):
            pass

    def ours(self, path: Path, keys: Sequence[str]) -> None:
        """Embed a file as the embedder does. Raises StepFailed."""
        pipeline = Pipeline(self.manager, self.pool, self.spool)
        outcomes = [o for o in pipeline.embed([_request(path, keys)]) if isinstance(o, TrackOutcome)]
        failures = [failure.message for outcome in outcomes for failure in outcome.failures.values()]
        if failures:
            raise StepFailed(f"{path.name} could not be embedded: {failures[0]}")

    def replaced(self, path: Path, keys: Sequence[str]) -> None:
        for key in keys:
            with _float32(self.encoders[key]):
                replaced.embed(self.encoders[key], str(path))


def _request(path: Path, keys: Sequence[str]) -> TrackRequest:
    return TrackRequest(path.name, str(path), tuple(keys))


@contextmanager
def _float32(encoder: Encoder) -> Iterator[None]:
    """Compute as the replaced algorithm does, in full precision."""
    before = encoder.precision
    encoder.precision = "float32"
    try:
        yield
    finally:
        encoder.precision = before


@contextmanager
def bench(effort: Effort, folder: Path | None = None) -> Iterator[Bench]:
    """Yield what the parts are measured with; takes it away afterwards."""
    with tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home:
        made = Bench(Path(home), effort)
        try:
            yield made
        finally:
            made.pool.close()


def decode(made: Bench) -> Iterator[Figure]:
    """Decode a file once for all models; replaced: once for each."""
    formats = list({encoder.audio for encoder in made.encoders.values()})
    for seconds, path in made.files.items():

        def ours(path: Path = path) -> None:
            for _ in made.pool.decode(str(path), formats):
                pass

        def theirs(path: Path = path) -> None:
            for encoder in made.encoders.values():
                replaced.decode(encoder, str(path))

        yield _compared(made, f"decode {seconds:g} s for all models", ours, theirs)


def models(made: Bench) -> Iterator[Figure]:
    """Embed a file, from its bytes to its vector: with each model, and with all."""
    for encoder in made.encoders.values():
        made.load(encoder)
    for keys in (*([key] for key in made.encoders), list(made.encoders)):
        name = keys[0] if len(keys) == 1 else "all models"
        for seconds, path in made.files.items():
            ours, theirs = partial(made.ours, path, keys), partial(made.replaced, path, keys)
            yield _compared(made, f"{name}, {seconds:g} s", ours, theirs)
    for encoder in made.encoders.values():
        yield from _arithmetic(made, encoder)


def _compared(made: Bench, what: str, ours: Callable[[], None], theirs: Callable[[], None]) -> Figure:
    """Run both in turn, after a first time that counts for neither; return the medians."""
    sides = {True: ours, False: theirs} if made.effort.against_replaced else {True: ours}
    costs: dict[bool, list[Cost]] = {side: [] for side in sides}
    for _ in range(made.effort.runs + 1):
        for side, action in sides.items():
            with memory_of(ours=side):
                costs[side].append(cost_of(action))
    wall = {side: statistics.median(cost.wall for cost in found[1:]) for side, found in costs.items()}
    cpu = {side: statistics.median(cost.cpu for cost in found[1:]) for side, found in costs.items()}
    return Figure(what, wall[True], "s", cpu[True], wall.get(False), cpu.get(False))


def _arithmetic(made: Bench, encoder: Encoder) -> Iterator[Figure]:
    """Count one item's operations, and compare how fast they go with a product of matrices."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    seconds = max(made.files)
    waveform = np.random.default_rng(0).normal(
        0, 0.1, (encoder.audio.channels, int(seconds * encoder.audio.sample_rate))
    )
    segmenter = encoder.segmenter()
    items = [*segmenter.push(waveform.astype(np.float32)), *segmenter.finish()]
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        encoder.encode(items[0].samples[None])
    teraflop = counter.get_total_flops() / 1e12
    size = made.manager.batch_size(encoder.key)
    batch = np.stack([items[0].samples] * size)
    taken = statistics.median(cost_of(lambda: encoder.encode(batch)).wall for _ in range(made.effort.runs))
    achieved = size * teraflop / taken
    yield Figure(f"{encoder.key}: counted for a track", len(items) * teraflop, "TFLOP")
    yield Figure(f"{encoder.key}: achieved in batches of {size}", achieved, "TFLOP/s")
    yield Figure(f"{encoder.key}: of a matrix product's rate", 100 * achieved / _peak(made, encoder), "%")


def _peak(made: Bench, encoder: Encoder) -> float:
    """Return the TFLOP/s of a large product of matrices in the model's precision."""
    import torch

    rows = PRODUCT if made.device.startswith("cuda") else PRODUCT_ON_CPU
    left = torch.randn(rows, rows, device=made.device, dtype=getattr(torch, encoder.precision))
    seconds = [cost_of(lambda: float((left @ left).sum())).wall for _ in range(10)]
    return 2 * rows**3 / min(seconds) / 1e12


def host(made: Bench) -> Iterator[Figure]:
    """CPU time of the thread that feeds the device, networks replaced by nothing: what a GPU would wait for."""
    from navembed_site.benchmarks.embedding.no_network import device_thread_seconds

    for seconds, path in made.files.items():
        for keys in (*([key] for key in made.encoders), list(made.encoders)):
            name = keys[0] if len(keys) == 1 else "all models"
            taken = [device_thread_seconds(made, path, keys) for _ in range(made.effort.runs + 1)][1:]
            wanted = 30.0 if len(keys) > 1 else None
            yield Figure(f"host, {name}, {seconds:g} s", 1_000 * statistics.median(taken), "ms", wanted=wanted)


def as_json(found: Figure) -> dict[str, Any]:
    """Return a figure with its ratios."""
    return {**vars(found), "speedup": found.speedup, "speedup_cpu": found.speedup_cpu}
