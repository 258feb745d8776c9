"""What the tests of search share: spaces of three models over the same tracks, and Navidrome's database of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embeddings.encoders.registry import encoder_class
from embeddings.index.sync import index_pending
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search.calibration import calibrate, sampled
from embeddings.spaces.vectors import DTYPES, to_bytes
from tests.milvus import LiteServer, lite_server, milvus
from tests.navidrome_db import make_navidrome
from tests.search.oracle import Space, World

__all__ = ["lite_server", "milvus"]

DIMENSIONS = {"muq": 12, "mert": 9, "latent": 6}
USERS: Mapping[str, set[int] | None] = {"boss": None, "ann": {1}, "bob": {1, 2}, "nobody": {1}}
"""Who may see which libraries; ``nobody`` is unknown, and sees what everybody may see."""


def library_of(track_id: str) -> int:
    return 1 + (int(track_id[1:]) % 5 == 4)


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A track as Navidrome tells it, by the oracle's names."""
    return {
        "title": f"Title {number}",
        "artist": f"Artist {number % 9}",
        "artist_id": f"a{number % 9}",
        "participants": {f"a{number % 9}"},
        "library_id": library_of(f"t{number}"),
        "missing": False,
    } | fields


class Library:
    """Embedded tracks: what is in the database, in Milvus and in Navidrome, and the same for the oracle."""

    def __init__(self, navidrome: Path) -> None:
        self.navidrome = make_navidrome(navidrome, libraries={1: "/one", 2: "/two"})
        self.world = World({}, {}, {}, USERS)
        with closing(sqlite3.connect(navidrome)) as connection:
            for user, libraries in USERS.items():
                if user != "nobody":
                    connection.execute(
                        "INSERT INTO user (id, user_name, is_admin, created_at, updated_at) VALUES (?, ?, ?, '', '')",
                        (user, user, libraries is None),
                    )
                for library in libraries or () if user != "nobody" else ():
                    connection.execute("INSERT INTO user_library VALUES (?, ?)", (user, library))
            connection.commit()

    def embed(self, model: str, vectors: Mapping[str, NDArray[np.floating]], status: str = "live") -> EmbeddingSpace:
        """Give tracks these vectors of a model, live, in Milvus and calibrated."""
        dimension = len(next(iter(vectors.values())))
        space = EmbeddingSpace.objects.create(
            model=model, dimension=dimension, fingerprint=f"{model}{status}".ljust(64, "f"), recipe={}, status=status
        )
        self._tracks(vectors)
        dtype = encoder_class(model).stored_dtype
        Embedding.objects.bulk_create(
            Embedding(
                space=space, track_id=i, windows=1, audio_seconds=1, size=1, mtime="", vector=to_bytes(vector, dtype)
            )
            for i, vector in vectors.items()
        )
        index_pending(space)
        kept, sample = calibrate(space), sampled(space)
        if status == "live":
            stored = {i: _unit(np.asarray(v, DTYPES[dtype]).astype(np.float64)) for i, v in vectors.items()}
            known = Space(stored, dimension, kept["mean"], kept["deviation"], sample)
            self.world = replace(self.world, spaces={**self.world.spaces, model: known})
        return space

    def _tracks(self, ids: Iterable[str]) -> None:
        fields = {"duration": 1, "size": 1, "mtime": "", "playable": True, "scan": 1}
        Track.objects.bulk_create(
            [Track(id=i, library_id=library_of(i), path=f"/{i}", title=i, **fields) for i in ids], ignore_conflicts=True
        )

    def tell(self, tracks: Mapping[str, Mapping[str, Any]], playlists: Mapping[str, Sequence[str]] = {}) -> None:
        """Let Navidrome say this of its tracks."""
        self.world = replace(self.world, tracks=tracks, playlists=playlists)
        with closing(sqlite3.connect(self.navidrome)) as connection:
            for table in ("media_file", "playlist_tracks", "media_file_artists"):
                connection.execute(f"DELETE FROM {table}")
            connection.executemany(
                "INSERT INTO media_file (id, path, title, artist, artist_id, library_id, missing, participants)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(i, f"{i}.mp3", *_columns(track)) for i, track in tracks.items()],
            )
            connection.executemany(
                "INSERT INTO playlist_tracks VALUES (?, ?, ?)",
                [(n, name, i) for name, ids in playlists.items() for n, i in enumerate(ids)],
            )
            connection.commit()


def _columns(track: Mapping[str, Any]) -> tuple[Any, ...]:
    people = json.dumps({"artist": [{"id": each, "name": each} for each in sorted(track["participants"])]})
    return (*(track[name] for name in ("title", "artist", "artist_id", "library_id", "missing")), people)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)


def clustered(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors in clusters of about five, among them copies."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, count // 5), dimension))
    drawn = centres[random.integers(len(centres), size=count)] + 0.6 * random.normal(size=(count, dimension))
    drawn[3::8] = drawn[2::8][: len(drawn[3::8])]
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def library(db: None, milvus: LiteServer, settings: Any, tmp_path: Path) -> Library:
    settings.NAVIDROME_DB_PATH = tmp_path / "navidrome.db"
    return Library(settings.NAVIDROME_DB_PATH)


@pytest.fixture
def music(library: Library) -> Library:
    """Thirty tracks t00 … t29, each embedded with some of the models, and present."""
    fill(library, seed=0)
    return library


def fill(library: Library, seed: int, count: int = 30) -> None:
    ids = [f"t{number:02}" for number in range(count)]
    for place, (model, dimension) in enumerate(DIMENSIONS.items()):
        vectors = dict(zip(ids, clustered(count, dimension, seed + place), strict=True))
        lacking = {i for n, i in enumerate(ids) if place and n % (5 + 2 * place) == 3}
        library.embed(model, {i: vector for i, vector in vectors.items() if i not in lacking})
    library.tell({i: row(n) for n, i in enumerate(ids)})
