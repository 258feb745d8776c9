"""Music2Latent: the codec's latents, statistics of how a track sounds in both channels."""

from __future__ import annotations

from typing import ClassVar

from embeddings.encoders.base import AudioFormat, Encoder


class LatentEncoder(Encoder):
    """Chunks of ten seconds of stereo; one column of latents per frame."""

    key: ClassVar[str] = "latent"
    label: ClassVar[str] = "Music2Latent"
    description: ClassVar[str] = "Codec latents in stereo: the texture and production of the sound"
    default_source: ClassVar[str] = "SonyCSLParis/music2latent"
    alias: ClassVar[str] = "latent_embedding"
    audio: ClassVar[AudioFormat] = AudioFormat(44_100, 2)
    published_dimension: ClassVar[int] = 576
    teraflop_per_second: ClassVar[float] = 0.084
    batch_size: ClassVar[int] = 32
