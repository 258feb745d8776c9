"""How long a recommendation takes in a large library, and where the time goes; on clustered synthetic embeddings.

A scratch instance is filled and searched by a process of its own, beside a Milvus Lite server of its own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from django.conf import settings
from django.core.management import call_command

from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description, Encoder
from embeddings.encoders.registry import ENCODERS, MODEL_KEYS, TEXT_MODEL
from embeddings.index.sync import rebuild_index
from embeddings.library.sync import sync_tracks
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search import recommend as engine
from embeddings.search.calibration import calibrate
from embeddings.search.recommend import Query, Seed
from embeddings.spaces.lifecycle import space_for
from embeddings.spaces.vectors import to_bytes
from navembed_site.benchmarks.index import BLOCK, clustered
from navembed_site.benchmarks.scratch import StepFailed, environment_of, python
from navembed_site.demo.navidrome import Row, write_database

SEEDS = 25
LIMIT = 100
DATABASE = "navidrome.db"
FEWEST_TRACKS = 500
REPEATS = 40
WARM_UP = 3
PATIENCE = 60.0  # so that a slow answer is counted as a slow one, not as an empty one
TEXT_LOAD_SECONDS = 300
# Words that the synthetic tokenizer does not cut, as the published one would not.
MOODS = ("calm", "dark", "happy", "sad", "warm", "wild", "dreamy")
INSTRUMENTS = ("piano", "guitar", "violin", "cello", "flute", "harp", "organ")
WRITE_TEXT_MODEL = """
import pathlib, sys
from navembed_site.demo.checkpoints import make_text_checkpoint
make_text_checkpoint(pathlib.Path(sys.argv[1]))
"""
STAGES = {
    "start_of": "seeds from the database",
    "candidates": "Milvus, the slowest of the models",
    "compared": "candidates compared exactly, all models",
    "present_tracks": "what Navidrome says of the candidates",
    "gram": "candidates compared with each other",
}


@dataclass(frozen=True)
class SearchFigure:
    """Of one kind of query, in milliseconds. ``stages``: medians of what takes longest."""

    what: str
    median: float
    p95: float
    stages: dict[str, float]


def measure(tracks: int, folder: Path | None = None) -> list[SearchFigure]:
    """Return the figures of a library of ``tracks``, made in a temporary folder in ``folder``. Raises StepFailed.

    20,000 tracks take about 6 GB of disk and a few minutes.
    """
    with tempfile.TemporaryDirectory(prefix="nb-", dir=folder) as home:
        checkpoint = Path(home) / "text"
        variables = {
            "NAVIDROME_DB_PATH": str(Path(home) / DATABASE),
            f"NAVEMBED_{TEXT_MODEL.audio_model.upper()}": str(checkpoint),
            "TEXT_EMBEDDING_DEVICE": settings.DEVICES[0],
        }
        environment = environment_of(Path(home), **variables)
        # In a process of its own: PyTorch takes memory that the search should have.
        python("-c", WRITE_TEXT_MODEL, str(checkpoint), environment=environment)
        done = python("manage.py", "benchmark", "search", "--here", "--tracks", str(tracks), environment=environment)
    return [SearchFigure(**figure) for figure in json.loads(done)]


def measure_here(tracks: int, weights: Sequence[str] = ("synthetic",)) -> list[dict[str, Any]]:
    """Fill this instance, which must be empty, and return the figures; Milvus runs.

    ``weights`` are what the vectors of the model that reads, too, are said to be made with.
    """
    fill_here(tracks, weights)
    plain = Query(limit=LIMIT, models=MODEL_KEYS)
    queries = {
        "25 seeds, three models": plain,
        "… with diversity 0.6": replace(plain, diversity=0.6),
        "… with 25 disliked tracks": replace(plain, disliked_track_ids=some_tracks(0, SEEDS), dislike_strength=0.5),
        "25 seeds, MuQ alone": replace(plain, models=["muq"]),
    }
    return [asdict(_figure(what, partial(_from_seeds, query))) for what, query in queries.items()]


def fill_here(tracks: int, weights: Sequence[str] = ("synthetic",)) -> None:
    """Give this instance, which must be empty, a library with embeddings of all models; Milvus runs."""
    call_command("migrate", verbosity=0)
    _write_library(tracks)
    for encoder in ENCODERS:
        _fill(encoder, weights)


def measure_here_with_texts(tracks: int) -> list[dict[str, Any]]:
    """As ``measure_here``, and by text; the embedder runs, too."""
    client = EmbedderClient()
    figures = measure_here(tracks, client.describe(TEXT_MODEL.key).fingerprint["weights"])
    client.embed_text("ready", wait_seconds=TEXT_LOAD_SECONDS)
    return [*figures, asdict(_figure("a text, MuQ alone, its model loaded", _from_text))]


def _from_seeds(query: Query, number: int) -> Query:
    return replace(query, seeds=[Seed(track_id) for track_id in some_tracks(1 + number, SEEDS)])


def _from_text(number: int) -> Query:
    """Each time another one, as those of before are remembered."""
    instrument, mood = divmod(number, len(MOODS))
    return Query(limit=LIMIT, texts=[f"slow and {MOODS[mood]} {INSTRUMENTS[instrument]} with soft drums"])


def _write_library(tracks: int) -> None:
    rows = (
        Row(
            library_id=1,
            path=f"{number // 12}/{number}.flac",
            title=f"Song {number}",
            artists=(f"Artist {number // 24}",),
            album=f"Album {number // 12}",
            number=1 + number % 12,
            genre="",
            duration=240,
            size=30_000_000 + number,
            updated_at="2024-05-06 07:08:09",
        )
        for number in range(tracks)
    )
    write_database(settings.NAVEMBED_HOME / DATABASE, {1: ("Music", "/music")}, {"admin": {1}}, rows, version=0)
    sync_tracks()


def _fill(encoder: type[Encoder], weights: Sequence[str]) -> EmbeddingSpace:
    """Give every track an embedding of the published size, and bring them into Milvus."""
    dimension = encoder.published_dimension
    space = space_for(encoder.key, Description(dimension, {"weights": list(weights)}, 0, ""))
    ids = list(Track.objects.order_by("pk").values_list("pk", flat=True))
    for start, block in zip(range(0, len(ids), BLOCK), clustered(len(ids), dimension), strict=True):
        Embedding.objects.bulk_create(
            Embedding(
                space=space,
                track_id=track_id,
                windows=1,
                audio_seconds=240,
                size=1,
                mtime="",
                vector=to_bytes(vector, encoder.stored_dtype),
            )
            for track_id, vector in zip(ids[start : start + BLOCK], block, strict=True)
        )
    rebuild_index(space)
    calibrate(space)
    return space


def some_tracks(first: int, count: int) -> list[str]:
    """Some tracks from all over the library; another ``first``, others."""
    ids = list(Track.objects.order_by("pk").values_list("pk", flat=True))
    return [ids[place] for place in np.random.default_rng(first).choice(len(ids), count, replace=False)]


def _figure(what: str, ask: Callable[[int], Query]) -> SearchFigure:
    times, stages = [], defaultdict(list)
    for number in range(WARM_UP + REPEATS):
        query = ask(number)
        with _stages() as spent:
            began = time.perf_counter()
            answer = engine.recommend(query, seconds=PATIENCE)
            seconds = time.perf_counter() - began
        if answer.warnings or len(answer.tracks) < query.limit / 2:
            raise StepFailed(f"{len(answer.tracks)} tracks instead of {query.limit}: {answer.warnings}")
        if number >= WARM_UP:
            times.append(1000 * seconds)
            for stage, each in spent.items():
                stages[stage].append(1000 * each)
    return SearchFigure(
        what,
        statistics.median(times),
        statistics.quantiles(times, n=20)[-1],
        {stage: statistics.median(each) for stage, each in stages.items()},
    )


@contextmanager
def _stages() -> Iterator[dict[str, float]]:
    """What the engine spends in each stage, in seconds; of those that run beside each other the longest."""
    spent: dict[str, float] = {}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def measured(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                seconds, stage = time.perf_counter() - began, STAGES[name]
                beside = name == "candidates"
                spent[stage] = max(spent.get(stage, 0), seconds) if beside else spent.get(stage, 0) + seconds

        return measured

    with ExitStack() as patches:
        for name in STAGES:
            patches.enter_context(mock.patch.object(engine, name, timed(name, getattr(engine, name))))
        yield spent
