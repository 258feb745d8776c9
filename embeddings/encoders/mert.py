"""MERT: a HuBERT trained on music; every layer's view of the sound, side by side."""

from __future__ import annotations

from typing import ClassVar

from embeddings.encoders.base import AudioFormat, Encoder


class MertEncoder(Encoder):
    """Windows of thirty seconds; all hidden states, averaged over time."""

    key: ClassVar[str] = "mert"
    label: ClassVar[str] = "MERT"
    description: ClassVar[str] = "Musical detail from all 25 layers: timbre, rhythm, harmony"
    default_source: ClassVar[str] = "m-a-p/MERT-v1-330M"
    alias: ClassVar[str] = "mert_embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(24_000, 1)
    published_dimension: ClassVar[int] = 76_800
    stored_dtype: ClassVar[str] = "float16"
    teraflop_per_second: ClassVar[float] = 0.379
    batch_size: ClassVar[int] = 32
