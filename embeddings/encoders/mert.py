"""MERT: a HuBERT trained on music; every layer's view of the sound, side by side.

The published checkpoint comes with code of its own, which is not run: the network is transformers' HubertModel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.windows import Samples, WindowStream
from embeddings.encoders.base import AudioFormat, Description, Encoder, Item, Pooled, Segmenter, Waveform
from embeddings.encoders.gathering import Items
from embeddings.encoders.lean_imports import leave_out_unused
from embeddings.encoders.pooling import enrich
from embeddings.errors import WeightsUnusable
from embeddings.index.projection import SEARCH_DIMENSION, SEED
from embeddings.weights.locate import Checkpoint, Files, find_checkpoint, sha256
from embeddings.weights.tensors import Selection

RATE = 24_000
WINDOW = 30 * RATE
HOP = 5 * RATE
SHORTEST = RATE // 2
"""Shorter audio is repeated to this length: the convolutions need some hundred samples."""

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
ARCHITECTURE = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act", "layer_norm_eps",
    "feat_proj_layer_norm", "feat_extract_norm", "feat_extract_activation", "do_stable_layer_norm",
    "conv_dim", "conv_stride", "conv_kernel", "conv_bias", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups",
)  # fmt: skip
TRAINING_ONLY = ("masked_spec_embed", "final_proj.", "label_embs_concat")


class MertSegmenter(Segmenter):
    """Windows of 30 s every 5 s."""

    def __init__(self) -> None:
        self._stream = WindowStream(channels=1, length=WINDOW, hop=HOP)
        self._count = 0

    def push(self, block: Waveform) -> Iterator[Item]:
        return self._items(self._stream.push(block))

    def finish(self) -> Iterator[Item]:
        return self._items(self._stream.finish())

    def _items(self, windows: Iterator[tuple[int, Samples]]) -> Iterator[Item]:
        for _, window in windows:
            samples = window[0] if window.shape[1] >= SHORTEST else np.resize(window[0], SHORTEST)
            self._count += 1
            yield Item(self._count - 1, samples)

    def pool(self, rows: NDArray[np.float32]) -> Pooled:
        return Pooled(enrich(rows.T), len(rows))


class MertEncoder(Encoder):
    """Windows of thirty seconds; all hidden states, averaged over time."""

    key: ClassVar[str] = "mert"
    label: ClassVar[str] = "MERT"
    description: ClassVar[str] = "Musical detail from all 25 layers: timbre, rhythm, harmony"
    default_source: ClassVar[str] = "m-a-p/MERT-v1-330M"
    files: ClassVar[Files] = (("config.json",), ("preprocessor_config.json",), WEIGHT_FILES)
    alias: ClassVar[str] = "mert_embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(RATE, 1)
    published_dimension: ClassVar[int] = 76_800
    stored_dtype: ClassVar[str] = "float16"
    search_dimension: ClassVar[int | None] = SEARCH_DIMENSION
    teraflop_per_second: ClassVar[float] = 0.379
    batch_size: ClassVar[int] = 8
    tensors: ClassVar[Selection] = Selection(unused=TRAINING_ONLY)

    def segmenter(self) -> Segmenter:
        return MertSegmenter()

    def describe(self) -> Description:
        checkpoint = find_checkpoint(self.source, self.files)
        config = _architecture(checkpoint)
        weights = self.weights_file()
        return Description(
            dimension=3 * (config["num_hidden_layers"] + 1) * config["hidden_size"],
            fingerprint={
                "recipe": "mert-layers-mean-enrich",
                "version": 1,
                "rate": RATE,
                "window": WINDOW,
                "hop": HOP,
                "normalize": _normalizes(checkpoint),
                "weights": [sha256(weights)],
                "search": {"kind": "sign-dct-subset", "seed": SEED.decode(), "dimension": SEARCH_DIMENSION},
            },
            weight_bytes=weights.stat().st_size,
            source=checkpoint.label,
        )

    def _build(self) -> Any:
        leave_out_unused()
        import torch
        from transformers import HubertConfig, HubertModel

        checkpoint = find_checkpoint(self.source, self.files)
        self._normalize = _normalizes(checkpoint)
        network = HubertModel(HubertConfig(**_architecture(checkpoint), apply_spec_augment=False, mask_time_prob=0.0))
        # A tenth of the work. In bfloat16 it cost loud, clipped audio a cosine of .001; so it is 7e-6.
        convolutions, kind = network.feature_extractor, torch.device(self.device).type
        convolutions.forward = torch.autocast(kind, enabled=False)(convolutions.forward)
        # Under autocast the sum that runs through all layers would be kept in bfloat16 and lose its small terms.
        network.feature_projection.register_forward_hook(lambda _module, _inputs, output: output.float())
        return network

    def encode(self, items: Items) -> NDArray[np.float32]:
        """Encode windows [items, samples]; returns [items, states·width], layer by layer."""
        import torch

        states: list[torch.Tensor] = []
        with torch.inference_mode(), self._autocast(), ExitStack() as hooks:
            waves = self.gatherer.batch(items)
            if self._normalize:
                waves = (waves - waves.mean(1, keepdim=True)) / (waves.var(1, correction=0, keepdim=True) + 1e-7).sqrt()
            # Each state is averaged as it passes: 25 states of 32 windows would be 7 GB.
            for layer in self._network.encoder.layers:
                hooks.enter_context(
                    layer.register_forward_pre_hook(lambda _layer, inputs: states.append(inputs[0].float().mean(1)))
                )
            states.append(self._network(waves).last_hidden_state.float().mean(1))
            rows: NDArray[np.float32] = torch.cat(states, dim=1).cpu().numpy()
        return rows


def _architecture(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what HubertConfig needs. Raises WeightsUnusable for networks that are no HuBERT."""
    config = checkpoint.json()
    for other in ("feature_extractor_cqt", "deepnorm"):
        if config.get(other):
            raise WeightsUnusable(f"{checkpoint.label} sets {other}: that is another network than MERT-v1's HuBERT")
    absent = [name for name in ("hidden_size", "num_hidden_layers") if not isinstance(config.get(name), int)]
    if absent:
        raise WeightsUnusable(f"{checkpoint.label}: config.json does not say {' and '.join(absent)}")
    return {name: config[name] for name in ARCHITECTURE if name in config}


def _normalizes(checkpoint: Checkpoint) -> bool:
    """Whether windows are brought to zero mean and unit variance. Raises WeightsUnusable for another rate."""
    preprocessor = checkpoint.json("preprocessor_config.json")
    if preprocessor.get("sampling_rate") != RATE:
        raise WeightsUnusable(
            f"{checkpoint.label} wants audio at {preprocessor.get('sampling_rate')} Hz, this recipe is for {RATE} Hz"
        )
    return bool(preprocessor.get("do_normalize", True))
