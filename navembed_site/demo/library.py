"""Makes a small library of synthetic music with a Navidrome database, with everything that real libraries have.

Ten genres, ten formats, names in many scripts, two Navidrome libraries, a piece in two encodings, a file that is
gone, and one that is damaged. Everything follows from the tables below.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from embeddings.library.sqlite import ForeignDatabase
from navembed_site.demo.encode import write_audio
from navembed_site.demo.music import SAMPLE_RATE, render
from navembed_site.demo.navidrome import Row, write_database

VERSION = 2  # a library made by another version is made again
LIBRARIES = {1: ("Music", "music"), 2: ("Vinyl 📀", "vinyl")}
USERS = {"admin": {1, 2}, "guest": {1}}
SUFFIXES = (".mp3", ".flac", ".m4a", ".ogg", ".opus", ".wav", ".alac.m4a", ".aiff", ".wma", ".wv")
SECONDS = (20, 22, 24, 21, 26, 23, 28)
# In lossy formats, so that the library stays small.
LONG = {
    "Полярная ночь": (150, ".opus"),
    "Kernschmelze": (60, ".wma"),
    "Fuga a 4": (75, ".m4a"),
    "はじまりの町": (95, ".ogg"),
}
TWIN = "Two Crossings"  # is there as FLAC and as MP3
GUESTS = {"Añil de noche": ("Zoe\u0301 Lindqvist",)}


@dataclass(frozen=True, slots=True)
class Album:
    library_id: int
    genre: str
    artist: str
    title: str
    tracks: tuple[str, ...]


ALBUMS = (
    Album(1, "ambient", "Тихий Берег", "Прилив", ("Туман над рекой", "Прилив", "Полярная ночь")),
    Album(1, "techno", "Maschinenraum 7", "Spätschicht", ("Kernschmelze", "Förderband", "Übergabe", "Druckluft")),
    Album(1, "folk", "Reed & Heron", "Low Water", ("Two Crossings", "The Ferryman's Girl", "Low Water")),
    Album(1, "chiptune", "八ビット楽団", "最後のセーブ", ("はじまりの町", "ドット絵の空", "ボス戦")),
    Album(1, "piano", "Zoe\u0301 Lindqvist", "Après-midi à Malmö", ("Fönster", "L'heure bleue", "Snö i april")),
    Album(1, "breakbeat", "DJ Kübel 🥁", "Rush Hour 🚇", ("Doors Closing", "Third Rail ⚡", "Mind the Gap")),
    Album(1, "jazz", "Trío Añil", "Calle 54", ("Añil de noche", "Medianoche en Cádiz", "¿Y ahora qué?")),
    Album(2, "industrial", "Rußwerk", "Halle 3", ("Stahl", "Walzstraße", "Asche")),
    Album(2, "organ", "Orgel St. Olaf", "Præludier", ("Præludium i g", "Fuga a 4", "Åndens bølge")),
    Album(2, "gamelan", "Gamelan Śrī Candra", "ꦱꦿꦶꦕꦤ꧀ꦢꦿ", ("Gending Esuk", "Ketawang Wengi", "Lancaran 水")),
)


DAMAGED = Row(
    library_id=1,
    path="Reed & Heron/Low Water/98 - Dropped Tape.mp3",
    title="Dropped Tape",
    artists=("Reed & Heron",),
    album="Low Water",
    number=98,
    genre="folk",
    duration=25,
)
MISSING = replace(DAMAGED, path="Reed & Heron/Low Water/99 - Gone.mp3", title="Gone", number=99, missing=True)


@dataclass(frozen=True, slots=True)
class DemoLibrary:
    """Where the library lies, and which of its tracks are special."""

    database: Path
    music_root: Path
    """Folder of library 1."""
    tracks: int
    """Playable ones: the damaged one counts, the missing one does not."""
    damaged: str
    missing: str
    twins: tuple[str, str]
    """The same piece as FLAC and as MP3."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A file to be made; of ``row``, size and time are known only then."""

    row: Row
    seed: int


def make_demo_library(folder: Path) -> DemoLibrary:
    """Make the library in ``folder``, or find it there; takes about 20 s and 60 MB.

    All paths in its database are relative, so the folder may be moved.

    Raises:
        FileExistsError: ``folder`` holds a Navidrome database that we did not make.
    """
    database = folder / "navidrome.db"
    pieces = list(_pieces())
    if not _is_made(database):
        _write_files(folder, pieces)
        rows = [_measured(folder, row) for row in (*(piece.row for piece in pieces), DAMAGED, MISSING)]
        unfinished = folder / "navidrome.db.unfinished"
        unfinished.unlink(missing_ok=True)
        write_database(unfinished, LIBRARIES, USERS, rows, version=VERSION)
        unfinished.replace(database)
    flac, mp3 = (piece.row.id for piece in pieces if piece.row.title == TWIN)
    return DemoLibrary(
        database=database,
        music_root=folder / LIBRARIES[1][1],
        tracks=len(pieces) + 1,
        damaged=DAMAGED.id,
        missing=MISSING.id,
        twins=(flac, mp3),
    )


def _pieces() -> Iterator[Piece]:
    seed = 0
    for album in ALBUMS:
        for number, title in enumerate(album.tracks, start=1):
            seconds, suffix = LONG.get(title, (SECONDS[seed % len(SECONDS)], SUFFIXES[seed % len(SUFFIXES)]))
            for one in (".flac", ".mp3") if title == TWIN else (suffix,):
                yield Piece(_row(album, number, title, seconds, one), seed)
            seed += 1


def _row(album: Album, number: int, title: str, seconds: float, suffix: str) -> Row:
    return Row(
        library_id=album.library_id,
        path=f"{album.artist}/{album.title}/{number:02} - {title}{suffix}",
        title=title,
        artists=(album.artist, *GUESTS.get(title, ())),
        album=album.title,
        number=number,
        genre=album.genre,
        duration=seconds,
    )


def _write_files(folder: Path, pieces: list[Piece]) -> None:
    longest_first = sorted(pieces, key=lambda piece: -piece.row.duration)
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), get_context("spawn")) as pool:
        list(pool.map(_write_piece, (_file(folder, piece.row) for piece in longest_first), longest_first))
    damaged = _file(folder, DAMAGED)
    damaged.write_bytes(np.random.default_rng(DAMAGED.number).bytes(200_000))


def _write_piece(path: Path, piece: Piece) -> None:
    row = piece.row
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = {"title": row.title, "artist": " • ".join(row.artists), "album": row.album, "track": str(row.number)}
    write_audio(path, render(row.genre, seconds=row.duration, seed=piece.seed), SAMPLE_RATE, tags=tags)


def _measured(folder: Path, row: Row) -> Row:
    if row.missing:
        return row
    stat = _file(folder, row).stat()
    whole, rest = divmod(stat.st_mtime_ns, 10**9)
    changed = f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}.{rest:09}+00:00"
    return replace(row, size=stat.st_size, updated_at=changed)


def _file(folder: Path, row: Row) -> Path:
    return folder / LIBRARIES[row.library_id][1] / row.path


def _is_made(database: Path) -> bool:
    """Whether this version made ``database``; its number is in ``user_version``, which Navidrome leaves at 0."""
    if not database.exists():
        return False
    (version,) = ForeignDatabase(database).query("PRAGMA user_version")[0]
    if version == 0:
        raise FileExistsError(f"{database} is not a demo's: choose another folder.")
    return bool(version == VERSION)
