"""What both sides of the process border know, so that the pool's parent need not import the decoder."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK_SECONDS = 120.0
"""A block of 24 kHz mono and 44.1 kHz stereo then takes 54 MB: in the child, its memory file and the parent."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file must keep to, so that its vector stands for it and it does not hold up all others."""

    min_decoded: float = 0.8
    """Share of a trustworthy length that must be there."""
    max_hours: float = 24.0
    """Of decoded audio."""
    gigabytes: float = 2.0
    """Of memory beside the libraries' own: several times what blocks and the index of a day's file take."""
    set_by: str = "NAVEMBED_MAX_HOURS"
    """What ``max_hours`` is from, for whom it surprises."""


DEFAULTS = Limits()


@dataclass(frozen=True, slots=True)
class AudioSummary:
    """What a decoded file turned out to be; comes after its last block."""

    audio_seconds: float
    declared_seconds: float
    """0 when the file does not say."""
    errors: int
    """Packets that could not be decoded."""
    audio_hash: str
    """As the function ``audio_hash`` computes it."""
    codec: str
    sample_rate: int
    channels: int
    note: str = ""
    """What of the file was not heard as it is; empty for nearly all."""
    sound: str = ""
    """Its acoustic fingerprint in hexadecimal digits, where it was asked for."""

    @property
    def ratio(self) -> float:
        """Decoded over declared length; 1 when none is declared. A loss within a FLAC shows only here."""
        return self.audio_seconds / self.declared_seconds if self.declared_seconds > 0 else 1.0
