"""MuQ-MuLan: music and words in one space of 512 numbers."""

from __future__ import annotations

from typing import ClassVar

from embeddings.encoders.base import AudioFormat, Encoder


class MuqEncoder(Encoder):
    """Ten-second clips, averaged over windows of two minutes."""

    key: ClassVar[str] = "muq"
    label: ClassVar[str] = "MuQ-MuLan"
    description: ClassVar[str] = "Music and text in one space: genre, mood, instruments; answers text queries"
    default_source: ClassVar[str] = "OpenMuQ/MuQ-MuLan-large"
    alias: ClassVar[str] = "embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(24_000, 1)
    published_dimension: ClassVar[int] = 1_536
    teraflop_per_second: ClassVar[float] = 0.033
    batch_size: ClassVar[int] = 64
