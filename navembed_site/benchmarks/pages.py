"""How long the console's pages take, and how many queries, in a large library; without embedder and Milvus."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import numpy as np
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from batches.api.v1.library import counts
from batches.engine import plan
from batches.models import BatchJob, TrackResult
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.maps.making import MOST_TRACKS
from embeddings.maps.vectors import keys_of
from embeddings.models import BadFile, DuplicatePair, Embedding, EmbeddingSpace, Playlist, SpaceMap, Track
from navembed_site.benchmarks.jobs import FILLING, Extent, Figure, run_step
from navembed_site.benchmarks.scratch import StepFailed
from navembed_site.console import colours, health, pace

REPEATS = 11
MOST_MS = 300
MOST_QUERIES = 15
OF_A_HUNDRED = 1  # tracks fail
PAIRS = 5_000
PLAYLISTS = 50
REASONS = ("no audio could be decoded", "the file is empty", "killed the embedder: out of memory")
PAGES = (
    "", "?part=health", "?part=hand", "?part=cards", "?part=last_jobs", "jobs", "jobs/{job}", "jobs/{job}?part=job",
    "jobs/{job}?part=job_pace", "jobs/{job}?part=job_reasons", "jobs/{job}/failures", "jobs/new",
    "jobs/folders?prefix=/music/Artist 1", "problems", "problems?message={reason}", "tracks",
    "tracks?q=ordinary+length", "tracks?q=nobody", "track/{track}", "find", "map", "map/points?way=pca",
    "map/points?by=genre", "map/points/{point}", "duplicates", "playlists", "uploads", "versions", "/panel",
)  # fmt: skip


def measure(extent: Extent, folder: Path | None = None) -> list[Figure]:
    """Return the figures of a scratch instance in ``folder`` that has done one job. Raises StepFailed."""
    with tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home:
        for step in FILLING:
            run_step(step, Path(home), extent)
        return run_step("pages", Path(home), extent)


def pages(extent: Extent) -> Iterator[Figure]:
    """Ask for each page of the console, at first with nothing remembered."""
    job = BatchJob.objects.earliest("pk")
    _spoil(job)
    _fill_pages()
    places = {"job": job.pk, "track": Track.objects.earliest("pk").pk, "reason": quote(REASONS[0])}
    places["point"] = Embedding.objects.earliest("pk").pk
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.create_superuser("benchmark"))
    _milliseconds(client, "/admin/")  # the first page of a process imports what all of them need
    for page in PAGES:
        path = urljoin("/admin/", page.format(**places))
        _forget()
        asked: list[str] = []
        with connection.execute_wrapper(partial(_note, asked)):
            cold = _milliseconds(client, path)
        times = [_milliseconds(client, path) for _ in range(REPEATS)]
        yield Figure(page or "home", statistics.median(times), "ms", MOST_MS)
        yield Figure("… p95", statistics.quantiles(times, n=20)[-1], "ms", MOST_MS)
        yield Figure("… with nothing remembered", cold, "ms")
        yield Figure("… its queries", len(asked), "queries", MOST_QUERIES)


def _note(asked: list[str], run: Any, sql: str, *arguments: Any) -> Any:
    asked.append(sql)
    return run(sql, *arguments)


def _forget() -> None:
    for each in (counts, health.signs, health.models):
        each.forget()
    pace.forget()
    colours.frequent.cache_clear()


def _milliseconds(client: Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    if answer.status_code != 200:
        raise StepFailed(f"{path} was answered with {answer.status_code}")
    return 1000 * (time.perf_counter() - began)


def _spoil(job: BatchJob) -> None:
    """Have some of the tracks failed, for a few reasons."""
    tracks = list(Track.objects.order_by("pk")[: Track.objects.count() * OF_A_HUNDRED // 100])
    for number, reason in enumerate(REASONS):
        mine = tracks[number :: len(REASONS)]
        rows = TrackResult.objects.filter(job=job, track__in=mine)
        rows.update(status="failed", error_class="AudioError", error_message=reason, traceback="Traceback …")
        BadFile.objects.bulk_create(
            BadFile(track=track, model="muq", size=track.size, mtime=track.mtime, error_message=reason)
            for track in mine
        )
    plan.recount(job)
    BatchJob.objects.filter(pk=job.pk).update(status=BatchJob.Status.COMPLETED_WITH_ERRORS)


def _fill_pages() -> None:
    """Have one model searched, with a map of random places, and some duplicates and playlists."""
    space = EmbeddingSpace.objects.get(model=MODEL_KEYS[0])
    EmbeddingSpace.objects.filter(pk=space.pk).update(status=EmbeddingSpace.Status.LIVE)
    keys = keys_of(space, MOST_TRACKS)
    random = np.random.default_rng(1)
    places = random.normal(size=(len(keys), 2)).astype("<f4").tobytes()
    groups = random.integers(0, 12, len(keys)).astype(np.uint8).tobytes()
    SpaceMap.objects.create(
        space=space, tracks=len(keys), keys=np.array(keys, "<i8").tobytes(), pca=places, umap=places, clusters=groups
    )
    ids = list(Track.objects.order_by("pk").values_list("pk", flat=True)[: 2 * PAIRS])
    DuplicatePair.objects.bulk_create(
        DuplicatePair(one_id=one, other_id=other, similarity={space.model: 0.99}, same_audio=False)
        for one, other in zip(ids[::2], ids[1::2], strict=True)
    )
    Playlist.objects.bulk_create(
        Playlist(name=f"Playlist {number}", user="somebody", recipe={"like": ids[:1]}) for number in range(PLAYLISTS)
    )
