"""How long a player waits for similar tracks in a large library, alone and beside four others; all is synthetic.

A scratch instance is filled as for ``search``, and asked as the plugin for Navidrome asks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.db import connections

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.search.path import path
from embeddings.search.query import Query
from embeddings.search.similar import TRACK, similar
from navembed_site.benchmarks.jobs import Figure
from navembed_site.benchmarks.scratch import StepFailed, environment_of, python
from navembed_site.benchmarks.search import DATABASE, LIMIT, PATIENCE, fill_here, some_tracks

REPEATS = 40
WARM_UP = 3
AT_A_TIME = 5
PER_ARTIST = 5
STEPS = 25
MOST_MS, MOST_BESIDE_MS = 300, 1000


def measure(tracks: int, folder: Path | None = None) -> list[Figure]:
    """Return the figures of a library of ``tracks``, made in a temporary folder in ``folder``. Raises StepFailed."""
    with tempfile.TemporaryDirectory(prefix="nb-", dir=folder) as home:
        environment = environment_of(Path(home), NAVIDROME_DB_PATH=str(Path(home) / DATABASE))
        done = python("manage.py", "benchmark", "similar", "--here", "--tracks", str(tracks), environment=environment)
    return [Figure(**figure) for figure in json.loads(done)]


def measure_here(tracks: int) -> list[dict[str, Any]]:
    """Fill this instance, which must be empty, and return the figures; Milvus runs."""
    fill_here(tracks)
    ids = some_tracks(1, WARM_UP + REPEATS)
    for track_id in ids[:WARM_UP]:
        _ask(track_id)
    alone = [_timed(_ask, track_id) for track_id in ids[WARM_UP:]]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        beside = list(pool.map(_ask_in_a_thread, ids[WARM_UP:]))
    paths = [_timed(_lead, track_id) for track_id in ids[WARM_UP:]]
    figures = [
        *_figures(f"{LIMIT} tracks, three models", alone, MOST_MS),
        *_figures(f"… {AT_A_TIME} at a time", beside, MOST_BESIDE_MS),
        *_figures(f"a path of {STEPS}, MuQ", paths, None),
    ]
    return [asdict(each) for each in figures]


def _ask(track_id: str) -> None:
    query = Query(limit=LIMIT, models=MODEL_KEYS, per_artist=PER_ARTIST)
    answer = similar(TRACK, track_id, query, seconds=PATIENCE)
    if answer.warnings or len(answer.tracks) < LIMIT / 2:
        raise StepFailed(f"{len(answer.tracks)} tracks instead of {LIMIT}: {answer.warnings}")


def _lead(track_id: str) -> None:
    (end,) = some_tracks(0, 1)
    found = path(track_id, end, Query(limit=STEPS), seconds=PATIENCE)
    if found.warnings:
        raise StepFailed(f"a path of {len(found.steps)}: {found.warnings}")


def _timed(ask: Callable[[str], None], track_id: str) -> float:
    """Return how many milliseconds an answer takes."""
    began = time.perf_counter()
    ask(track_id)
    return 1000 * (time.perf_counter() - began)


def _ask_in_a_thread(track_id: str) -> float:
    try:
        return _timed(_ask, track_id)
    finally:
        connections.close_all()


def _figures(what: str, times: list[float], most: float | None) -> Iterator[Figure]:
    yield Figure(f"{what}, median", statistics.median(times), "ms")
    yield Figure(f"{what}, p95", statistics.quantiles(times, n=20)[-1], "ms", wanted=most)
