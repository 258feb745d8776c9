"""MuQ-MuLan: music and words in one space of 512 numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.windows import Samples, WindowStream
from embeddings.encoders.base import AudioFormat, Description, Encoder, Item, Pooled, Segmenter, Waveform
from embeddings.encoders.gathering import Items
from embeddings.encoders.muq_network import DROPPED, audio_tower
from embeddings.encoders.pooling import enrich
from embeddings.errors import WeightsMissing, WeightsUnusable
from embeddings.weights.locate import Checkpoint, Files, find_checkpoint, find_part, sha256
from embeddings.weights.tensors import Selection

RATE = 24_000
WINDOW = 120 * RATE
HOP = 15 * RATE
CLIP = 10 * RATE

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
CONFIG_FILES: Files = (("config.json",),)
TEXT_FILES: Files = (("config.json",), ("tokenizer.json",), ("tokenizer_config.json",))
UNUSED = (*(f"audio.model.model.{part}" for part in DROPPED), "audio.aggregator.")


class MuqSegmenter(Segmenter):
    """Windows of 120 s every 15 s, each cut into clips of 10 s. Windows share most clips: each is one item.

    So are clips that are alike to the bit: silence, and loops.
    """

    def __init__(self) -> None:
        self._stream = WindowStream(channels=1, length=WINDOW, hop=HOP)
        self._index: dict[int, int] = {}
        """Clip's first sample in the track -> item."""
        self._alike: dict[tuple[float, ...], int] = {}
        """What tells a clip's content -> item."""
        self._windows: list[list[int]] = []

    def push(self, block: Waveform) -> Iterator[Item]:
        return self._items(self._stream.push(block))

    def finish(self) -> Iterator[Item]:
        return self._items(self._stream.finish())

    def _items(self, windows: Iterator[tuple[int, Samples]]) -> Iterator[Item]:
        for start, window in windows:
            offsets = range(0, window.shape[1], CLIP)
            new = []
            for offset in offsets:
                if start + offset not in self._index:
                    clip = _clip(window[0], offset)
                    known = len(self._alike)
                    index = self._index[start + offset] = self._alike.setdefault(_content(clip), known)
                    if index == known:
                        new.append(Item(index, clip))
            self._windows.append([self._index[start + offset] for offset in offsets])
            yield from new

    def pool(self, rows: NDArray[np.float32]) -> Pooled:
        """Pool clips [clips, 512]: a window is the mean of its clips, not normalised again."""
        windows = np.stack([rows[clips].mean(axis=0, dtype=np.float64) for clips in self._windows])
        return Pooled(enrich(windows.T), len(windows))


def _clip(window: NDArray[np.float32], offset: int) -> NDArray[np.float32]:
    """Return the clip at ``offset``; a shorter one is completed from the window's start, repeatedly."""
    clip = window[offset : offset + CLIP]
    if len(clip) == CLIP:
        return clip
    return np.concatenate([clip, np.resize(window, CLIP - len(clip))])


@cache
def _directions() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal((2, CLIP), np.float32)


def _content(clip: NDArray[np.float32]) -> tuple[float, ...]:
    """Return three numbers that only clips of equal samples share: a hash of them would take thirty times as long."""
    return (float(clip @ clip), *(float(clip @ direction) for direction in _directions()))


class MuqEncoder(Encoder):
    """Ten-second clips, averaged over windows of two minutes."""

    key: ClassVar[str] = "muq"
    label: ClassVar[str] = "MuQ-MuLan"
    description: ClassVar[str] = "Music and text in one space: genre, mood, instruments; answers text queries"
    default_source: ClassVar[str] = "OpenMuQ/MuQ-MuLan-large"
    files: ClassVar[Files] = (("config.json",), WEIGHT_FILES)
    alias: ClassVar[str] = "embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(RATE, 1)
    published_dimension: ClassVar[int] = 1_536
    teraflop_per_second: ClassVar[float] = 0.033
    batch_size: ClassVar[int] = 32
    tensors: ClassVar[Selection] = Selection(prefix="mulan.", part="audio", unused=UNUSED)

    def segmenter(self) -> Segmenter:
        return MuqSegmenter()

    def parts(self) -> dict[str, Files]:
        """Return its MuQ and XLM-RoBERTa. MuQ-MuLan's own weights hold both: only configs and words are needed."""
        config = read_config(find_checkpoint(self.source, self.files))
        return {config["audio_model"]["name"]: CONFIG_FILES, config["text_model"]["name"]: TEXT_FILES}

    def describe(self) -> Description:
        checkpoint = find_checkpoint(self.source, self.files)
        config, audio_config = _configs(checkpoint)
        weights = self.weights_file()
        heard = [config["audio_model"].get("use_layer_idx", -1), config["audio_transformer"], audio_config]
        return Description(
            dimension=3 * config["mulan"]["dim_latent"],
            fingerprint={
                "recipe": "muq-mulan-clips-mean-enrich",
                "version": 1,
                "rate": RATE,
                "window": WINDOW,
                "hop": HOP,
                "clip": CLIP,
                "config": hashlib.sha256(json.dumps(heard, sort_keys=True).encode()).hexdigest(),
                "weights": [sha256(weights)],
            },
            weight_bytes=weights.stat().st_size,
            source=checkpoint.label,
        )

    def _build(self) -> Any:
        """Build the audio tower; the text tower is no part of what embeds music."""
        checkpoint = find_checkpoint(self.source, self.files)
        try:
            network = audio_tower(*_configs(checkpoint))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise WeightsUnusable(f"{checkpoint.label}: its configs do not describe a MuQ-MuLan: {error!r}") from error
        # Under autocast the sum that runs through all layers would be kept in bfloat16 and lose its small terms.
        for entrance in (network["audio"].model.model.conv, network["audio"].proj):
            entrance.register_forward_hook(lambda _module, _inputs, output: output.float())
        return network

    def check_weights(self, path: Path) -> None:
        """Check both towers: one file holds them, so that music and texts are always of the same weights."""
        from embeddings.encoders.muq_text import MuqText

        super().check_weights(path)
        with suppress(WeightsMissing):  # what the text tower needs beside the weights
            MuqText(self.source, self.device).check_weights(path)

    def encode(self, items: Items) -> NDArray[np.float32]:
        """Encode clips [items, samples]; returns unit vectors [items, 512]."""
        import torch

        audio, to_latents = self._network["audio"], self._network["audio_to_latents"]
        muq = audio.model.model
        with torch.inference_mode():
            waves = self.gatherer.batch(items)
            # In float32: decibels of a spectrogram in bfloat16 would be off by whole steps.
            features = muq.normalize(muq.preprocessing(waves, ["melspec_2048"]))["melspec_2048"]
            with self._autocast():
                _, states, _ = muq.encoder(features)
                heard = audio.transformer(audio.proj(states[audio.use_layer_idx])).mean(dim=1)
                latents = to_latents(heard)
            rows: NDArray[np.float32] = torch.nn.functional.normalize(latents.float(), dim=-1).cpu().numpy()
        return rows


def _configs(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the config of the whole and that of the MuQ it names. Raises WeightsMissing, WeightsUnusable."""
    config = read_config(checkpoint)
    return config, find_part(checkpoint, config["audio_model"]["name"], CONFIG_FILES).json()


def read_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return MuQ-MuLan's config.json. Raises WeightsMissing, WeightsUnusable when it is another model's."""
    config = checkpoint.json()
    needed = ("mulan", "audio_model", "audio_transformer", "text_model")
    absent = [part for part in needed if not isinstance(config.get(part), dict)]
    absent += [f"{part}.name" for part in ("audio_model", "text_model") if not config.get(part, {}).get("name")]
    if absent:
        raise WeightsUnusable(f"{checkpoint.label}: config.json has no {', '.join(absent)}: not a MuQ-MuLan")
    heard = config["mulan"].get("clip_secs", CLIP // RATE), config["mulan"].get("sr", RATE)
    if heard != (CLIP // RATE, RATE):
        raise WeightsUnusable(
            f"{checkpoint.label} hears {heard[0]} s at {heard[1]} Hz, this recipe is for 10 s at {RATE}"
        )
    return config
