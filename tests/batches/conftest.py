"""What the tests of jobs share: a device, a small library, a way to run a job in this process."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batches.engine import pace, runner
from batches.engine.leases import DeviceLease
from batches.models import BatchJob
from navembed_site.demo.encode import write_audio
from tests.audio_files import DAMAGED, tone
from tests.batches.rows import take_device, work_on
from tests.instances import checkpoints, embedder, embedder_process
from tests.milvus import lite_server, milvus
from tests.navidrome_db import add_libraries, add_tracks, make_navidrome

__all__ = ["checkpoints", "embedder", "embedder_process", "lite_server", "milvus"]

SUFFIXES = (".flac", ".mp3", ".ogg", ".opus", ".wav", ".m4a")
RATE = 44_100


@pytest.fixture
def lease(db: None) -> DeviceLease:
    return take_device()


@dataclass
class Music:
    """A Navidrome library of short files in a folder of its own."""

    root: Path
    database: Path
    pool: list[Path]
    names: list[str] = field(default_factory=list)

    def add(self, name: str, *, seed: int = 0, **columns: Any) -> str:
        """Add a track of two seconds; returns its id, which is its name without the suffix."""
        shutil.copy(self.pool[seed % len(self.pool)], self.root / name)
        return self.add_row(name, **columns)

    def add_damaged(self, name: str = "damaged.mp3") -> str:
        DAMAGED["random bytes"].write(self.root / name)
        return self.add_row(name)

    def add_row(self, name: str, **columns: Any) -> str:
        """Add a track to the database alone."""
        track_id, path = name.partition(".")[0], self.root / name
        size = path.stat().st_size if path.exists() else 1000
        row = {"id": track_id, "path": name, "title": track_id, "duration": 2.0, "size": size} | columns
        with closing(sqlite3.connect(self.database)) as connection:
            add_tracks(connection, [row])
        return track_id

    def add_library(self, number: int, folder: Path) -> None:
        """Add an empty library."""
        folder.mkdir()
        with closing(sqlite3.connect(self.database)) as connection:
            add_libraries(connection, {number: str(folder)})

    def change(self, track_id: str, **columns: Any) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute(f"UPDATE media_file SET {assignments} WHERE id = ?", (*columns.values(), track_id))

    def remove(self, track_id: str) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("DELETE FROM media_file WHERE id = ?", (track_id,))

    def clear(self) -> None:
        with closing(sqlite3.connect(self.database)) as connection, connection:
            connection.execute("DELETE FROM media_file")

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process use it."""
        return {"NAVIDROME_DB_PATH": str(self.database)}


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seconds of different music in each of several formats."""
    folder = tmp_path_factory.mktemp("pool")
    paths = [folder / f"{number}{suffix}" for number, suffix in enumerate(SUFFIXES)]
    for number, path in enumerate(paths):
        write_audio(path, tone(2.0, RATE, seed=number), RATE)
    return paths


@pytest.fixture
def music(tmp_path: Path, settings: Any, pool: list[Path]) -> Music:
    """An empty library that the settings name."""
    root = tmp_path / "music"
    root.mkdir()
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "navidrome.db", libraries={1: str(root)}, journal="delete")
    settings.LIBRARY = "navidrome"
    return Music(root, settings.NAVIDROME_DB_PATH, pool)


RunToEnd = Callable[[BatchJob], BatchJob]


@pytest.fixture
def run_to_end(db: None) -> RunToEnd:
    """Run a job's device here, slice after slice, until it has ended."""

    def run(job: BatchJob) -> BatchJob:
        while job.is_open:
            work_on()
            job.refresh_from_db()
        return job

    return run


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure that may pass is tried again at once, and waiting is short."""
    monkeypatch.setattr("batches.engine.chunks.PAUSES", (timedelta(0), timedelta(0)))
    monkeypatch.setattr(runner, "MAX_PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(runner, "EMBEDDER_PAUSE_SECONDS", 1.0)


@pytest.fixture
def four(music: Music) -> Music:
    for number in range(4):
        music.add(f"track{number}.flac")
    return music


@pytest.fixture
def one_track_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "CHUNK_SECONDS", 0.0)
