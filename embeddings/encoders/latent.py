"""Music2Latent: the codec's latents, statistics of how a track sounds in both channels.

The package downloads into its own folder and unpickles freely, so only its network is used: the encoder, built here
and filled from the weights alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from embeddings.audio.windows import Backlog
from embeddings.encoders.base import AudioFormat, Description, Encoder, Item, Pooled, Segmenter, Waveform
from embeddings.encoders.gathering import Items
from embeddings.encoders.pooling import Matrix, enrich_slabs
from embeddings.errors import WeightsUnusable
from embeddings.weights.locate import Checkpoint, Files, find_checkpoint, sha256
from embeddings.weights.tensors import Selection

RATE = 44_100
FRAME = 2_048
HOP = 512
DOWNSAMPLING = 8
"""Spectrogram frames per latent frame."""
CHUNK = 10 * RATE // HOP // DOWNSAMPLING * DOWNSAMPLING
"""Spectrogram frames that are encoded together: 856."""
CHANNELS = 2
LATENTS = 64
GLANCE = 4_096
FREQUENCIES = 1_024
SIGMA_RESCALE = 0.06
"""The package's ``sigma_rescale``: latents are divided by it."""

WEIGHT_FILES = ("music2latent.safetensors", "music2latent.pt")
OVERRIDABLE = (
    "base_channels", "multipliers_list", "layers_list", "layers_list_encoder", "attention_list",
    "attention_list_encoder", "heads", "cond_channels", "bottleneck_base_channels", "num_bottleneck_layers",
)  # fmt: skip


def _samples(frames: int) -> int:
    """Return how many samples ``frames`` spectrogram frames span."""
    return (frames - 1) * HOP + FRAME


class LatentSegmenter(Segmenter):
    """Chunks of 856 spectrogram frames, side by side; as samples [2, n], the last as frames [2, 856, 2048].

    Where both channels are the same, as in doubled mono, it is [1, …]. A track is cropped to whole latents as the
    package does. The last chunk is completed with frames from the track's start, which no run of samples could express.
    """

    def __init__(self) -> None:
        self._backlog = Backlog(CHANNELS)
        self._start: Waveform | None = None
        self._chunks = 0
        self._frames = 0

    def push(self, block: Waveform) -> Iterator[Item]:
        self._backlog.append(block)
        return self._complete()

    def _complete(self) -> Iterator[Item]:
        while self._backlog.end >= self._chunks * CHUNK * HOP + _samples(CHUNK):
            samples = self._backlog.view(self._chunks * CHUNK * HOP, _samples(CHUNK))
            if self._start is None:
                self._start = samples.copy()  # of a track of hours, not all of its first block
            self._chunks += 1
            self._backlog.forget(self._chunks * CHUNK * HOP)
            yield Item(self._chunks - 1, _distinct(samples))

    def finish(self) -> Iterator[Item]:
        available = max(0, (self._backlog.end - FRAME) // HOP + 1)
        self._frames = max(1, available // DOWNSAMPLING) * DOWNSAMPLING
        rest = self._frames - self._chunks * CHUNK
        if self._backlog.end == 0 or rest <= 0:
            return
        remaining = self._backlog.view(self._chunks * CHUNK * HOP, _samples(rest))
        if self._start is None:  # one chunk of the track's own length, repeated when that is under 0.13 s
            whole = [np.resize(channel, _samples(rest)) for channel in remaining]
            yield Item(0, _distinct(np.stack(whole)))
            return
        frames = [
            sliding_window_view(piece, FRAME, axis=1)[:, ::HOP]
            for piece in (remaining, self._start[:, : _samples(CHUNK - rest)])
        ]
        yield Item(self._chunks, _distinct(np.concatenate(frames, axis=1)))

    def pool(self, rows: NDArray[np.float32]) -> Pooled:
        """Pool rows [chunks, 2, 64, latent frames]."""
        frames = self._frames // DOWNSAMPLING
        return Pooled(enrich_slabs(_slabs(rows, frames)), frames)


def _distinct(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one of two channels that are the same; a glance tells most that are not."""
    left, right = channels
    alike = np.array_equal(left[:GLANCE], right[:GLANCE]) and np.array_equal(left, right)
    return channels[:1] if alike else channels


def _slabs(rows: NDArray[np.float32], frames: int) -> Iterator[Matrix]:
    """Yield the matrix [192, frames] in slabs: both channels of each latent in turn, then their magnitudes."""

    def latent(index: int) -> Matrix:
        # [chunks, 2, frames of a chunk] to [2, frames of the track], without those of the completion
        return rows[:, :, index].transpose(1, 0, 2).reshape(CHANNELS, -1)[:, :frames]

    for index in range(LATENTS):
        yield latent(index)
    for index in range(LATENTS):
        left, right = latent(index).astype(np.float64)
        yield np.sqrt(left**2 + right**2 + 1e-12)[None]


class LatentEncoder(Encoder):
    """Chunks of ten seconds of stereo; one column of latents per frame."""

    key: ClassVar[str] = "latent"
    label: ClassVar[str] = "Music2Latent"
    description: ClassVar[str] = "Codec latents in stereo: the texture and production of the sound"
    default_source: ClassVar[str] = "SonyCSLParis/music2latent"
    files: ClassVar[Files] = (WEIGHT_FILES,)
    alias: ClassVar[str] = "latent_embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(RATE, CHANNELS)
    published_dimension: ClassVar[int] = 576
    teraflop_per_second: ClassVar[float] = 0.084
    batch_size: ClassVar[int] = 8
    # As the package itself does. In bfloat16 the cosine to float32 fell to 0.996 with random weights, in float16 to
    # 0.9999.
    reduced_precision: ClassVar[str] = "float16"
    tensors: ClassVar[Selection] = Selection(prefix="encoder.", within="gen_state_dict")

    def segmenter(self) -> Segmenter:
        return LatentSegmenter()

    def describe(self) -> Description:
        checkpoint = find_checkpoint(self.source, self.files)
        weights = self.weights_file()
        return Description(
            dimension=9 * LATENTS,
            fingerprint={
                "recipe": "music2latent-stereo-enrich",
                "version": 1,
                "rate": RATE,
                "window": CHUNK * HOP,
                "hop": CHUNK * HOP,
                "architecture": _overrides(checkpoint),
                "weights": [sha256(weights)],
            },
            weight_bytes=weights.stat().st_size,
            source=checkpoint.label,
        )

    def _build(self) -> Any:
        return build_network(_overrides(find_checkpoint(self.source, self.files)))

    def encode(self, items: Items) -> NDArray[np.float32]:
        """Encode chunks [items, 2, samples] or [items, 2, frames, 2048]; returns [items, 2, 64, latent frames].

        Of chunks [items, 1, …] both channels are the same, and encoded once.
        """
        import torch

        with torch.inference_mode():
            waves = self.gatherer.batch(items).flatten(0, 1)
            frames = waves if waves.ndim == 3 else waves.unfold(-1, FRAME, HOP)
            spectrogram = _spectrogram(frames)
            with self._autocast():
                latents = self._network(spectrogram)
            if self.precision == "float16" and not latents.isfinite().all():  # a value beyond 65,504
                latents = self._network(spectrogram)
            rows: NDArray[np.float32] = (latents.float() / SIGMA_RESCALE).cpu().numpy()
        sides = rows.reshape(len(items), -1, *rows.shape[1:])
        return np.repeat(sides, CHANNELS // sides.shape[1], axis=1)


def _spectrogram(frames: Any) -> Any:
    """Turn frames [n, T, 2048] into what the network hears: real and imaginary part [n, 2, 1024, T], compressed.

    The package's ``normalize_complex``, β·|X|^α·exp(i·arg X), as β·|X|^(α-1)·X: without angles, five times faster.
    """
    import torch
    from music2latent.hparams import alpha_rescale, beta_rescale

    window = torch.hann_window(FRAME, device=frames.device)
    parts = torch.view_as_real(torch.fft.rfft(frames * window)[..., :FREQUENCIES])
    power = parts.square().sum(-1, keepdim=True).clamp_min(1e-30)
    return (parts * (beta_rescale * power ** ((alpha_rescale - 1) / 2))).permute(0, 3, 2, 1)


_building = threading.Lock()  # a second thread would take one's numbers for the package's own


def build_network(overrides: dict[str, Any], part: str = "Encoder") -> Any:
    """Build the package's encoder (or another ``part``, ``UNet``) with random weights.

    Its architecture is a set of module-level numbers, read while it is built; ``overrides`` stand in for some.
    """
    from music2latent import models

    with _building, _numbers(models, overrides):
        return getattr(models, part)()


@contextmanager
def _numbers(module: ModuleType, values: dict[str, Any]) -> Iterator[None]:
    own = {name: getattr(module, name) for name in values}
    vars(module).update(values)
    try:
        yield
    finally:
        vars(module).update(own)


def _overrides(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the checkpoint's own architecture; the published weights have none and use the package's."""
    if not (checkpoint.folder / "config.json").is_file():
        return {}
    config = checkpoint.json()
    unknown = sorted(set(config) - set(OVERRIDABLE))
    if unknown:
        raise WeightsUnusable(f"{checkpoint.label}: config.json sets {', '.join(unknown)}, which nothing reads")
    return config
