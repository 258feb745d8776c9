"""Audio files to waveforms and fingerprints: one source, read in several ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from embeddings.audio.files import read_through
from embeddings.audio.recording import FORMAT, Fingerprinter
from embeddings.audio.source import COMPLETE, Progress, Source
from embeddings.audio.summary import BLOCK_SECONDS, DEFAULTS, AudioSummary, Limits
from embeddings.audio.waveform import Track
from embeddings.encoders.base import AudioFormat, Waveform
from embeddings.errors import AudioError

__all__ = ["AudioSummary", "Block", "Native", "audio_hash", "decode", "natives"]

Block = dict[AudioFormat, Waveform]
"""float32 [channels, samples] per format."""


def decode(
    path: str,
    formats: Sequence[AudioFormat],
    *,
    sound: bool = False,
    block_seconds: float = BLOCK_SECONDS,
    limits: Limits = DEFAULTS,
    progress: Progress = lambda: None,
) -> Iterator[Block | AudioSummary]:
    """Decode a file once into all ``formats``: blocks in order, then the summary.

    A block holds about ``block_seconds`` of the file, full scale ±1 (lossy formats overshoot); memory does not grow
    with the file. Mono is mixed before it is resampled (soxr HQ): of mono and stereo files the blocks in a row equal
    ``librosa.load`` bit for bit where the codec is lossless. Where rate or channels change, each part is mixed and
    resampled by itself. NaN and infinities become 0. With ``sound`` the summary has the acoustic fingerprint.
    ``progress`` is called for every packet.

    Raises:
        AudioFileMissing: there is no such file. Passing.
        AudioError: cannot be read now (rights, network share; passing), or it is no audio, silent, too short, too
            long or mostly damaged or missing (permanent). Files are judged at their end: blocks may have been
            yielded before.
    """
    if any(wanted.channels not in (1, 2) for wanted in formats):
        raise ValueError(f"only mono and stereo can be asked for, not {formats}")
    source = Source(path, progress, limits)
    fingerprinter = Fingerprinter()
    for block in _blocks(source, [*formats, FORMAT] if sound else formats, block_seconds):
        if sound:
            fingerprinter.push(block.pop(FORMAT)[0])
        if block:
            yield block
    summary, verdict = source.summary(), source.verdict()
    if verdict or source.errors or summary.ratio < COMPLETE:
        read_through(path, progress)
    if verdict:
        raise AudioError(verdict)
    yield replace(summary, sound=fingerprinter.fingerprint().hex())


class Native(NamedTuple):
    """A piece of a file as it is: float32 [channels, samples], full scale ±1; ``bits`` hold it without a loss.

    Of integers beyond 24 bits, and of floats, the 24 highest are left; what lossy codecs make is worth 16.
    """

    waveform: Waveform
    rate: int
    bits: int


def natives(path: str, *, limits: Limits = DEFAULTS, progress: Progress = lambda: None) -> Iterator[Native]:
    """Decode a file with all its channels at its own rate, in pieces of about a second.

    Raises as ``decode`` does, and when something of a lossless file is missing, so that what follows lies at a wrong
    place, or does not match its checksum.
    """
    source = Source(path, progress, limits, exact=True)
    for waveform in source.waveforms():
        yield Native(waveform, source.rate, source.bits)
    if damage := source.damage() or source.loss():
        read_through(path, progress)
        raise AudioError(damage)


def audio_hash(path: str, *, progress: Progress = lambda: None) -> str:
    """SHA-256 (hex) over codec name, rate, channels and the packets of the audio stream; nothing is decoded.

    It stays the same when tags are edited. Raises as ``decode`` does, but judges no audio.
    """
    source = Source(path, progress)
    for _ in source.packets():
        pass
    if source.errors:
        read_through(path, progress)
    return source.digest.hexdigest()


def _blocks(source: Source, formats: Sequence[AudioFormat], block_seconds: float) -> Iterator[Block]:
    tracks = {wanted: Track(wanted) for wanted in formats}
    ready = 0.0
    for waveform in source.waveforms():
        for track in tracks.values():
            track.push(waveform, source.rate, source.speakers)
        ready += waveform.shape[1] / source.rate
        if ready >= block_seconds:
            yield {wanted: track.take() for wanted, track in tracks.items()}
            ready = 0
    for track in tracks.values():
        track.finish()
        source.cancelled_seconds = max(source.cancelled_seconds, track.cancelled_seconds)
    rest = {wanted: track.take() for wanted, track in tracks.items()}
    if any(waveform.size for waveform in rest.values()):
        yield rest
