"""The steps of ``benchmark jobs``; each runs in a process of its own, in the scratch instance, and returns figures."""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import numpy as np
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from django.utils import timezone
from numpy.typing import NDArray

from batches import schedule, services
from batches.engine import chunks, leases, plan
from batches.engine.leases import DeviceLease
from batches.models import BatchJob, Device, ModelProgress
from batches.selectors.progress import contract_progress
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.work import TrackOutcome, TrackVector
from embeddings.encoders.base import Description
from embeddings.encoders.registry import MODEL_KEYS, encoder_class
from embeddings.models import Embedding, EmbeddingSpace
from embeddings.spaces.lifecycle import space_for
from embeddings.spaces.vectors import to_bytes
from navembed_site.benchmarks.jobs import Extent, Figure
from navembed_site.benchmarks.scratch import StepFailed
from navembed_site.demo.navidrome import SCHEMA, made_id
from navembed_site.process.host import host_key

T = TypeVar("T")
MEGABYTE = 2**20
REPEATS = 51
SECONDS = 240.0  # of each track
HALF = "8"  # ids begin with a hexadecimal digit
SLICES = [f"{number:02x}" for number in range(256)]
SHORT = 8  # numbers of a vector whose length is not measured
RATE = 7_200.0  # seconds of audio per second: chunks of 100 tracks, as on a fast device

STAGES = {
    "reading the library": 'INSERT INTO "embeddings_track"',
    "looking for moved files": "WHERE NOT o.playable",
    "planning three models": "batches_trackresult",
}
ADD_TRACK = """
    INSERT INTO media_file (id, path, title, artist, album, album_artist, size, duration, updated_at, participants)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADD_VECTORS = """
    INSERT INTO embeddings_embedding (space_id, track_id, windows, audio_seconds, size, mtime, audio_hash,
                                      index_state, updated_at, vector)
    SELECT %(space)s, t.id, 1, t.duration, t.size, t.mtime, t.id || t.id, 'indexed', %(now)s, %(vector)s
    FROM embeddings_track t JOIN batches_trackresult r ON r.track_id = t.id AND r.job_id = %(job)s
         AND r.model = %(model)s AND r.status = 'pending'
    WHERE t.id >= %(begin)s AND t.id < %(end)s ORDER BY t.id"""
SUCCEED = """
    UPDATE batches_trackresult SET status = 'succeeded', attempts = 1, seconds = 0.1, audio_seconds = 240,
           finished_at = %(now)s
    WHERE job_id = %(job)s AND status = 'pending' AND track_id >= %(begin)s AND track_id < %(end)s"""


def _prepare(extent: Extent) -> None:
    """Make the databases of an instance that has never embedded anything."""
    if connection.introspection.table_names():
        raise StepFailed("the database is not empty: give the benchmark one of its own")
    call_command("migrate", verbosity=0)
    _write_library(_found(settings.NAVIDROME_DB_PATH), extent.tracks)
    for model in MODEL_KEYS:
        space_for(model, Description(_dimension(model, extent), {"weights": "synthetic"}, 0, ""))


def _write_library(path: Path, tracks: int) -> None:
    """Write a Navidrome database with so many synthetic tracks, whose files are nowhere."""
    with closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)
        database.execute("INSERT INTO library (name, path, last_scan_at) VALUES ('Music', '/music', '2025-01-01')")
        database.executemany(ADD_TRACK, (_track(number) for number in range(tracks)))
        database.commit()


def _track(number: int) -> tuple[Any, ...]:
    artist, album = f"Artist {number // 120}", f"The {number // 12}th album of them all"
    title = f"A song of ordinary length ({number})"
    people = f'{{"artist":[{{"id":"{made_id(artist)}","name":"{artist}"}}]}}'
    changed = f"2024-05-{1 + number % 28:02} 07:08:09.{number:09}+00:00"
    path = f"{artist}/{album}/{1 + number % 12:02} - {title}.flac"
    return made_id(path), path, title, artist, album, artist, 30_000_000 + number, SECONDS, changed, people


def _start_job() -> BatchJob:
    """Start what the schedule starts; nothing is embedded, so no weights are needed."""
    with patch.object(services, "problems_with", return_value={}):
        return services.start_job(started_by=schedule.STARTED_BY)


def start(extent: Extent) -> Iterator[Figure]:
    """In a new instance, start a job over the whole library and claim its first chunk; then do half of it."""
    _prepare(extent)
    before = _memory("VmRSS")
    began, computed = time.perf_counter(), time.process_time()
    job = _start_job()
    lease = _take()
    _set_spaces(job)
    with _stages() as stages:
        plan.plan(job, lease, lease.renew)
    planned = time.perf_counter()
    _found(chunks.claim(job, lease))
    ended, computed = time.perf_counter(), time.process_time() - computed
    yield Figure("start of a job, to its first chunk", ended - began, "s", 60)
    yield Figure("… time of the processor in it", computed, "s")
    yield from stages
    yield Figure("… claiming the first chunk", ended - planned, "s")
    yield Figure("peak memory of the start", _memory("VmHWM") / MEGABYTE, "MB", 500)
    yield Figure("… beyond what the process had before", (_memory("VmHWM") - before) / MEGABYTE, "MB")
    chunks.release_abandoned(job, lease)
    _succeed(job, extent, lambda begin: begin < HALF)
    plan.recount(job)
    Device.objects.update(rates=dict.fromkeys(MODEL_KEYS, RATE))
    chunks.claim(job, lease)  # and now the process is gone


def resume(extent: Extent) -> Iterator[Figure]:
    """Go on after the kill; measure what a job that runs does often, and do the rest of it."""
    began = time.perf_counter()
    leases.recover()
    job = _job()
    lease = _take()
    chunks.release_abandoned(job, lease)
    chunk = _found(chunks.claim(job, lease))
    yield Figure("resume of a half-done job, to its next chunk", time.perf_counter() - began, "s", 10)
    services.set_running(job)
    began = time.perf_counter()
    chunks.commit(job, lease, chunk, [_outcome(claimed, extent) for claimed in chunk.tracks], 10.0)
    yield Figure(f"commit of a chunk of {len(chunk.rows)} results", 1000 * (time.perf_counter() - began), "ms")

    def claim_and_release() -> None:
        chunks.release(_found(chunks.claim(job, lease)), lease)

    yield _often("claim and release of a chunk", claim_and_release)
    yield _often("progress query", lambda: contract_progress(services.open_job()), 10)
    yield _often("watchdog", services.watch)
    yield _often("schedule's tick, beside a job", schedule.run)
    _succeed(job, extent, lambda begin: begin >= HALF)
    began = time.perf_counter()
    plan.recount(job)
    yield Figure("recount of a build that was planned again", time.perf_counter() - began, "s")
    services.set_completed(job)


def repeat(extent: Extent) -> Iterator[Figure]:
    """Start a job that finds nothing to do; count the vectors as a comparison with Milvus does."""
    yield _often("schedule's tick, without a job", schedule.run)
    began = time.perf_counter()
    job = _start_job()
    started = time.perf_counter() - began
    lease = _take()
    _set_spaces(job)
    with _stages() as stages:
        plan.plan(job, lease, lease.renew)
    yield Figure("job with nothing to do, to the end of its planning", time.perf_counter() - began, "s")
    yield Figure("… starting it", started, "s")
    yield from stages
    if chunks.is_left(job):
        raise StepFailed("the second job has something to do")
    began = time.perf_counter()
    for space in EmbeddingSpace.objects.all():
        space.embeddings.filter(index_state=Embedding.IndexState.INDEXED).count()
    yield Figure("counting what Milvus should hold", time.perf_counter() - began, "s")
    yield Figure("peak memory of a job with nothing to do", _memory("VmHWM") / MEGABYTE, "MB", 500)


def _job() -> BatchJob:
    return _found(services.active_job())


def _take() -> DeviceLease:
    """Take the device, also from another job."""
    leases.recover()
    device = Device.objects.get(host_id=host_key(), index=0)
    return _found(leases.take(device.pk, device.seq))


def _found(value: T | None) -> T:
    if value is None:
        raise StepFailed("the job does not go as it should")
    return value


def _set_spaces(job: BatchJob) -> None:
    """Say in place of the embedder in which space each model works."""
    for space in EmbeddingSpace.objects.all():
        ModelProgress.objects.filter(job=job, model=space.model).update(space=space)


def _dimension(model: str, extent: Extent) -> int:
    return extent.numbers if model == MODEL_KEYS[0] else SHORT


def _succeed(job: BatchJob, extent: Extent, begins: Callable[[str], bool]) -> None:
    """Write vectors and results of the tracks whose ids begin so, as if a device had made them."""
    values: dict[str, Any] = {"job": job.pk, "now": timezone.now()}
    spaces = {space.model: space for space in EmbeddingSpace.objects.all()}
    for begin, end in zip(SLICES, [*SLICES[1:], "g"], strict=True):
        if not begins(begin):
            continue
        with transaction.atomic(), connection.cursor() as cursor:
            slice_ = values | {"begin": begin, "end": end}
            for model, space in spaces.items():
                vector = to_bytes(_vector(space.dimension), encoder_class(model).stored_dtype)
                cursor.execute(ADD_VECTORS, slice_ | {"space": space.pk, "model": model, "vector": vector})
            cursor.execute(SUCCEED, slice_)


def _outcome(claimed: chunks.ClaimedTrack, extent: Extent) -> TrackOutcome:
    vectors = {model: TrackVector(_vector(_dimension(model, extent)), 1, 0.1, "float32") for model in claimed.results}
    audio = AudioSummary(SECONDS, SECONDS, 0, claimed.track.id, "flac", 44_100, 2)
    return TrackOutcome(claimed.track.id, vectors=vectors, audio=audio)


def _vector(dimension: int) -> NDArray[np.float32]:
    return np.full(dimension, dimension**-0.5, np.float32)


def _often(what: str, call: Callable[[], object], wanted: float | None = None) -> Figure:
    """The median of many calls, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    return Figure(what, statistics.median(times), "ms", wanted)


@contextmanager
def _stages() -> Iterator[list[Figure]]:
    """What planning spends on each of its stages, known by the statements with which they begin."""
    seconds = dict.fromkeys(STAGES, 0.0)
    stage, since = next(iter(STAGES)), time.perf_counter()

    def execute(run: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        nonlocal stage, since
        if (begun := next((name for name, marker in STAGES.items() if marker in sql), stage)) != stage:
            now = time.perf_counter()
            seconds[stage] += now - since
            stage, since = begun, now
        return run(sql, *arguments)

    figures: list[Figure] = []
    with connection.execute_wrapper(execute):
        yield figures
    seconds[stage] += time.perf_counter() - since
    figures += [Figure(f"… {name}", value, "s") for name, value in seconds.items()]


def _memory(field: str) -> int:
    """Bytes of this process, by the kernel's name for them; 0 where it does not tell."""
    try:
        status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
        return 1024 * int(status[field].split()[0])
    except (OSError, KeyError):
        return 0
