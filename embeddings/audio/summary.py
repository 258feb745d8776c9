"""What both sides of the process border know, so that the pool's parent need not import the decoder."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_SECONDS = 120.0
"""A block of 24 kHz mono and 44.1 kHz stereo then takes 54 MB: in the child, its memory file and the parent."""


@dataclass(frozen=True, slots=True)
class AudioSummary:
    """What a decoded file turned out to be; comes after its last block."""

    audio_seconds: float
    declared_seconds: float
    """0 when the file does not say."""
    errors: int
    """Packets that could not be decoded, and frames whose format was not that of the first."""
    audio_hash: str
    """As the function ``audio_hash`` computes it."""
    codec: str
    sample_rate: int
    channels: int

    @property
    def ratio(self) -> float:
        """Decoded over declared length; 1 when none is declared. A loss within a FLAC shows only here."""
        return self.audio_seconds / self.declared_seconds if self.declared_seconds > 0 else 1.0
