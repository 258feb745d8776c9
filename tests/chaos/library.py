"""The music of a run: distinct synthetic files, a Navidrome database that lists them, and what is true of them."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from navembed_site.demo.encode import write_audio
from tests.audio_files import DAMAGED, tone
from tests.navidrome_db import add_tracks, make_navidrome

RATE = 44_100
SUFFIXES = (".flac", ".mp3", ".ogg", ".wav")
SPARES = 8
"""Files that are in no library at first: they come under the job, or in the place of others."""
DAMAGED_TRACK = "damaged"
IN_PART = 4  # one of so many tracks lies in the part that may be away alone

Vector = NDArray[np.float64]


class Corpus:
    """Different music in files, the same for every run, and the float64 reference of each."""

    def __init__(self, folder: Path, checkpoints: dict[str, Path], short: int, long: int) -> None:
        self.checkpoints = checkpoints
        self.used = short + long
        self._references: dict[tuple[str, int], Vector] = {}
        # No multiple of a hop, nor of 1/300 s: librosa's rounding of lengths would decide where the last window lies.
        lengths = [24.7, 24.7, 24.7, 41.301]
        seconds = [2.0 + 0.1 * (n % 10) for n in range(short)] + [lengths[n % 4] for n in range(long)] + [3.3] * SPARES
        self.paths = [folder / f"{number:03}{SUFFIXES[number % len(SUFFIXES)]}" for number in range(len(seconds))]
        self.seconds = seconds
        for number, path in enumerate(self.paths):
            write_audio(path, tone(seconds[number], RATE, seed=number), RATE)

    def reference(self, model: str, number: int) -> Vector:
        """Return the float64 embedding of a file; computed once."""
        from tests.encoders.reference import reference_embedding

        if (model, number) not in self._references:
            waveform = read_waveform(self.paths[number], stereo=model == "latent")
            self._references[model, number] = reference_embedding(model, self.checkpoints[model], waveform)
        return self._references[model, number]


def read_waveform(path: Path, *, stereo: bool) -> Vector:
    """Decode with libsndfile, not with our decoder: [2, samples] at 44.1 kHz or [1, samples] at 24 kHz."""
    import soundfile
    import soxr

    samples, rate = soundfile.read(path, dtype="float64", always_2d=True)
    if stereo:
        return np.ascontiguousarray(samples.T)
    mono: Vector = soxr.resample(samples.mean(axis=1), rate, 24_000, quality="HQ")
    return mono[None]


@dataclass
class Library:
    """A Navidrome library under a job. ``truth``: which file of the corpus each good track plays."""

    root: Path
    corpus: Corpus
    truth: dict[str, int] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    """Changed, new, gone or for a while away since the job began: the job may have met either state."""

    hidden: int = 0
    """Files that are away for a while."""
    is_shared: bool = False
    """Whether programs see the music through a share that may be in trouble."""

    @property
    def away(self) -> Path:
        """Where the whole folder is, or a part of it, while it is away."""
        return self.root / "away"

    @property
    def is_away(self) -> bool:
        return self.away.exists()

    @cached_property
    def music(self) -> Path:
        """Where the files are."""
        return self.root / ("source" if self.is_shared else "music")

    @property
    def seen(self) -> Path:
        """Where programs see them."""
        return self.root / "music"

    @property
    def part(self) -> Path:
        """A part of the music, as on a disk of its own."""
        return self.music / "nas"

    @cached_property
    def database(self) -> Path:
        return self.root / "navidrome.db"

    def make(self) -> None:
        self.part.mkdir(parents=True)
        self.seen.mkdir(exist_ok=True)
        make_navidrome(self.database, libraries={1: str(self.seen)})
        for number in range(self.corpus.used):
            self.add(f"track{number:03}", number, self.part.name if number % IN_PART == 0 else "")
        DAMAGED["random bytes"].write(self.music / f"{DAMAGED_TRACK}.mp3")
        self._add_row(DAMAGED_TRACK, f"{DAMAGED_TRACK}.mp3", 3.0)

    def add(self, track: str, number: int, folder: str = "") -> None:
        name = str(Path(folder, track + self.corpus.paths[number].suffix))
        shutil.copy(self.corpus.paths[number], self.music / name)
        self.truth[track] = number
        self._add_row(track, name, self.corpus.seconds[number])

    def replace(self, track: str, number: int) -> None:
        """Put other music of the same kind in the place of a track's file; then comes Navidrome's scan."""
        path = self.path(track)
        fresh = path.with_name(f"{path.name}.new")
        shutil.copy(self.corpus.paths[number], fresh)
        fresh.replace(path)
        self.truth[track] = number
        self.touched.add(track)
        self._execute(
            "UPDATE media_file SET size = ?, updated_at = '2031-02-03 04:05:06' WHERE id = ?",
            path.stat().st_size,
            track,
        )

    def remove(self, track: str) -> None:
        self.path(track).unlink(missing_ok=True)
        del self.truth[track]
        self.touched.add(track)
        self._execute("DELETE FROM media_file WHERE id = ?", track)

    def edit_tags(self, track: str) -> None:
        """As Navidrome shows it: another time of change, the same audio."""
        self.touched.add(track)
        self._execute("UPDATE media_file SET updated_at = '2032-03-04 05:06:07' WHERE id = ?", track)

    def give_new_id(self, track: str) -> None:
        """The same file under another id, as after a scan that did not know it again."""
        fresh = f"{track}-again"
        self.truth[fresh] = self.truth.pop(track)
        self.touched |= {track, fresh}
        self._execute("UPDATE media_file SET id = ? WHERE id = ?", fresh, track)

    def in_part(self) -> set[str]:
        """Return the tracks whose files lie in the part."""
        return {track for track in self.truth if self.path(track).parent == self.part}

    def path(self, track: str) -> Path:
        with closing(sqlite3.connect(self.database)) as connection:
            ((name,),) = connection.execute("SELECT path FROM media_file WHERE id = ?", (track,)).fetchall()
        return self.music / str(name)

    def _add_row(self, track: str, name: str, seconds: float) -> None:
        size = (self.music / name).stat().st_size
        with closing(sqlite3.connect(self.database)) as connection:
            add_tracks(connection, [{"id": track, "path": name, "title": track, "duration": seconds, "size": size}])

    def _execute(self, statement: str, *values: object) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(statement, values)
