"""Cuts a file into FLACs whose samples in a row are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embeddings.audio.summary import DEFAULTS, Limits
from embeddings.errors import AudioError

if TYPE_CHECKING:
    import soundfile

FRAMES = 75  # of a CUE sheet, a second


@dataclass(frozen=True)
class Cut:
    """A part to write: ``start`` and ``end`` (None: the file's) are fractions in frames of 1/75 s, as text."""

    path: str
    start: str
    end: str | None
    tags: Mapping[str, str] = field(default_factory=dict)

    def samples(self, rate: int) -> tuple[int, int | None]:
        """Return the first sample, and the one after the last."""
        return _sample(self.start, rate), None if self.end is None else _sample(self.end, rate)


def split(
    path: str, cuts: Sequence[Cut], *, limits: Limits = DEFAULTS, progress: Callable[[], None] = lambda: None
) -> list[float]:
    """Write the cuts, which follow each other in time, with their tags and the file's cover; returns their seconds.

    Memory does not grow with the file. Raises AudioError, and leaves none of them, when the file is shorter than
    they need, changes its rate within, or is damaged.
    """
    try:
        lengths = _write(path, cuts, limits, progress)
        _tag(path, cuts)
    except BaseException:
        for cut in cuts:
            Path(cut.path).unlink(missing_ok=True)
        raise
    return lengths


def _sample(frames: str, rate: int) -> int:
    return round(Fraction(frames) * rate / FRAMES)


def _write(path: str, cuts: Sequence[Cut], limits: Limits, progress: Callable[[], None]) -> list[float]:
    from embeddings.audio.decode import natives

    writers: list[_Writer] = []
    done, format_ = 0, None
    try:
        for piece in natives(path, limits=limits, progress=progress):
            if format_ is None:
                format_ = (piece.rate, piece.bits, len(piece.waveform))
                writers = [_Writer(cut, *format_) for cut in cuts]
            elif format_[::2] != (piece.rate, len(piece.waveform)):
                raise AudioError("its sample rate or its channels change within, so it cannot be split")
            for writer in writers:
                writer.take(piece.waveform, done)
            done += piece.waveform.shape[1]
    finally:
        for writer in writers:
            writer.close()
    for writer in writers:
        if not writer.is_whole:
            raise AudioError(f"it ends after {done / writer.rate:.2f} s, before the CUE sheet does")
    return [writer.written / writer.rate for writer in writers]


class _Writer:
    """One cut, in the making."""

    def __init__(self, cut: Cut, rate: int, bits: int, channels: int) -> None:
        self.rate = rate
        self.written = 0
        self._cut = cut
        self._start, self._end = cut.samples(rate)
        self._bits = bits
        self._channels = channels
        self._file: soundfile.SoundFile | None = None

    @property
    def is_whole(self) -> bool:
        return self.written > 0 and (self._end is None or self.written == self._end - self._start)

    def take(self, waveform: NDArray[np.float32], offset: int) -> None:
        """Write what of ``waveform``, which begins at sample ``offset`` of the file, belongs to the cut."""
        first = max(0, self._start - offset)
        last = waveform.shape[1] if self._end is None else min(waveform.shape[1], self._end - offset)
        if first < last:
            self._open().write(_integers(waveform[:, first:last], self._bits))
            self.written += last - first
        elif self._end is not None and offset >= self._end:
            self.close()

    def _open(self) -> Any:
        import soundfile

        if self._file is None:
            self._file = soundfile.SoundFile(
                self._cut.path, "x", self.rate, self._channels, f"PCM_{self._bits}", format="FLAC"
            )
        return self._file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _integers(waveform: NDArray[np.float32], bits: int) -> NDArray[np.int32]:
    """Return int32 [samples, channels]: the sample's bits, the highest first, as libsndfile takes them."""
    full = 2.0 ** (bits - 1)
    scaled = np.clip(np.rint(waveform.T.astype(np.float64) * full), -full, full - 1)
    return scaled.astype(np.int32) << (32 - bits)


def _tag(path: str, cuts: Sequence[Cut]) -> None:
    from embeddings.audio import tags

    picture = None
    with suppress(Exception):  # a damaged file makes mutagen raise almost anything
        picture = tags.cover(path)
    for cut in cuts:
        tags.write(cut.path, cut.tags, picture)
