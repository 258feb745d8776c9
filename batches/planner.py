"""Decides what a job has to do and writes it down as rows, in slices, so that it can go on where it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TypeVar

from django.db import connection, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from batches.lanes import Lease
from batches.models import BatchJob, ModelProgress, TrackResult
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description
from embeddings.errors import FingerprintChanged
from embeddings.library.sync import sync_tracks
from embeddings.models import EmbeddingSpace
from embeddings.recognition import take_over_moved
from embeddings.spaces import fingerprint_of, live_space, space_for

TRACKS_A_SLICE = 20_000  # with three models 60,000 rows
LAST_PLAN = 4
LOOK_SECONDS = 1.0

T = TypeVar("T")
Status = TrackResult.Status
DONE = (Status.SUCCEEDED, Status.FAILED)

# A track needs work when no vector was made of the file as it is, or everything is asked for anew.
NEEDS_WORK = "(%(anew)s OR e.id IS NULL)"
# Compared within the join, so that an index answers: else a page is read for each vector.
VECTORS = """LEFT JOIN embeddings_embedding e ON e.space_id = %(space)s AND e.track_id = t.id
         AND e.size = t.size AND e.mtime = t.mtime AND e.index_state <> 'deleting'"""
REASON = """CASE WHEN %(clear)s THEN 'anew'
    WHEN EXISTS (SELECT 1 FROM embeddings_embedding o WHERE o.space_id = %(space)s AND o.track_id = t.id
                 AND o.index_state <> 'deleting') THEN 'changed'
    WHEN EXISTS (SELECT 1 FROM batches_trackresult r WHERE r.track_id = t.id AND r.model = %(model)s
                 AND r.status = 'failed') THEN 'failed before' ELSE 'new' END"""
IN_SCOPE = """t.playable AND t.id > %(after)s
    AND (CAST(%(library)s AS INTEGER) IS NULL OR t.library_id = %(library)s)
    AND SUBSTR(t.path, 1, LENGTH(%(prefix)s)) = %(prefix)s
    AND (%(only)s = '' OR t.id = %(only)s)"""
# Planned again at the end of a build: what has changed meanwhile is done again, what failed stays so.
INSERT = f"""
    INSERT INTO batches_trackresult (job_id, track_id, model, status, reason, recognised, attempts, deaths,
                                     error_class, error_message, traceback)
    SELECT %(job)s, t.id, %(model)s, 'pending', {REASON}, %(no)s, 0, 0, '', '', ''
    FROM embeddings_track t {VECTORS}
    WHERE {IN_SCOPE} AND t.id <= %(until)s AND {NEEDS_WORK} ORDER BY t.id
    ON CONFLICT (job_id, track_id, model) DO UPDATE
    SET status = 'pending', reason = 'changed', recognised = excluded.recognised, attempts = 0, deaths = 0,
        finished_at = NULL
    WHERE batches_trackresult.status = 'succeeded'"""
COUNT = f"""
    SELECT COUNT(*), COALESCE(SUM(CASE WHEN {NEEDS_WORK} THEN 1 ELSE 0 END), 0),
           COALESCE(SUM(CASE WHEN {NEEDS_WORK} THEN t.duration END), 0)
    FROM embeddings_track t {VECTORS}
    WHERE {IN_SCOPE} AND t.id <= %(until)s"""
SLICE = f"""
    SELECT MAX(slice.id) FROM (
        SELECT t.id FROM embeddings_track t WHERE {IN_SCOPE}
        AND (%(everything)s OR (SELECT COUNT(*) FROM embeddings_embedding e WHERE e.track_id = t.id
             AND e.space_id IN ({{spaces}}) AND e.size = t.size AND e.mtime = t.mtime
             AND e.index_state <> 'deleting') < %(models)s)
        ORDER BY t.id LIMIT %(tracks)s
    ) slice"""
COUNT_TRACKS = (
    "SELECT COUNT(DISTINCT track_id) FROM batches_trackresult WHERE job_id = %s AND track_id > %s AND track_id <= %s"
)


def plan(job: BatchJob, lease: Lease, look: Callable[[], None]) -> None:
    """Write the rows of ``job``, or what has changed since they were written.

    ``look`` is called about once a second, also within transactions, and stops the planning by raising.
    Raises LibraryUnavailable, WeightsMissing, WeightsUnusable, EmbedderUnavailable, FingerprintChanged, LaneLost.
    """
    spaces = _spaces(job, lease, look)
    if not job.planned_until:
        sync_tracks(fence=look)
        if not job.is_restricted:
            _take_over_moved(job, spaces, look)
    while _plan_slice(job, spaces, look):
        pass
    again = job.plans > 0
    found = again and TrackResult.objects.filter(job=job, status=TrackResult.Status.PENDING).exists()
    if found:
        recount(job, look)
    with transaction.atomic():
        look()
        plans = job.plans + 1 if found or not again else LAST_PLAN
        BatchJob.objects.filter(pk=job.pk).update(planned=True, plans=plans)
    job.refresh_from_db()


def plan_again(job: BatchJob) -> bool:
    """Have the library compared once more with what was built; False when that was done and found nothing.

    A library that changes all the time ends it, too: the next job has the rest.
    """
    if job.plans >= LAST_PLAN:
        return False
    BatchJob.objects.filter(pk=job.pk).update(planned=False, planned_until="")
    return True


def recount(job: BatchJob, look: Callable[[], None] = lambda: None) -> None:
    """Set the counters to what the rows say, while nobody else writes any.

    It reads them all, in seconds for a million tracks, before the transaction in which it writes.
    """
    rows = TrackResult.objects.filter(job=job)
    done, failed = Q(status__in=DONE), Q(status=Status.FAILED)
    by_model = {}
    for model in job.model_keys:
        look()
        by_model[model] = rows.filter(model=model).aggregate(
            total=Count("pk"),
            succeeded=Count("pk", filter=Q(status=Status.SUCCEEDED)),
            failed=Count("pk", filter=failed),
            audio_seconds_total=Coalesce(Sum("track__duration"), 0.0),
            audio_seconds_done=Coalesce(Sum("track__duration", filter=done), 0.0),
        )
    look()
    tracks = rows.values("track").annotate(left=Count("pk", filter=~done), bad=Count("pk", filter=failed))
    counted = tracks.aggregate(
        total_tracks=Count("track"),
        processed_tracks=Count("track", filter=Q(left=0, bad=0)),
        failed_tracks=Count("track", filter=Q(left=0, bad__gt=0)),
    )
    with transaction.atomic():
        look()
        for model, counts in by_model.items():
            ModelProgress.objects.filter(job=job, model=model).update(**counts)
        BatchJob.objects.filter(pk=job.pk).update(**counted)


def _spaces(job: BatchJob, lease: Lease, look: Callable[[], None]) -> dict[str, EmbeddingSpace]:
    """Return, and write down, the space in which each model works."""
    client = EmbedderClient(lease.device)
    spaces = {}
    for progress in job.progress.select_related("space"):
        model = progress.model
        space = progress.space or _space(job, model, patiently(partial(client.describe, model), look))
        ModelProgress.objects.filter(pk=progress.pk).update(space=space)
        spaces[model] = space
    return spaces


def _take_over_moved(job: BatchJob, spaces: dict[str, EmbeddingSpace], look: Callable[[], None]) -> None:
    """Files that only have a new id keep their vectors; they then count as up to date."""
    for model, space in spaces.items():
        if count := take_over_moved(space, look):
            progress = ModelProgress.objects.get(job=job, model=model)
            progress.skipped["new id"] = progress.skipped.get("new id", 0) + count
            progress.save(update_fields=["skipped"])


def patiently(call: Callable[[], T], look: Callable[[], None]) -> T:
    """Return what a slow ``call``, which uses no database, returns; ``look`` about once a second."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([future], LOOK_SECONDS).done:
        look()
    return future.result()


def _space(job: BatchJob, model: str, description: Description) -> EmbeddingSpace:
    live = live_space(model)
    if not job.is_restricted or not live:
        return space_for(model, description, anew=job.clear_existing)
    if live.fingerprint != fingerprint_of(description):
        raise FingerprintChanged(
            f"the weights or the recipe of {model} have changed: a job over a part of the library "
            "would mix vectors that cannot be compared. Start one over the whole library."
        )
    return live


def _plan_slice(job: BatchJob, spaces: dict[str, EmbeddingSpace], look: Callable[[], None]) -> bool:
    """Plan the next slice of tracks in one transaction; False when there are no more."""
    until = _end_of_slice(job, spaces)
    if not until:
        return False
    with transaction.atomic(), connection.cursor() as cursor:
        look()
        for model, space in spaces.items():
            slice_ = _scope(job) | {"until": until, "space": space.pk, "anew": job.is_restricted and job.clear_existing}
            cursor.execute(COUNT, slice_)
            seen, needed, seconds = cursor.fetchone()
            if not job.plans:
                _count(job, model, seen, needed, seconds)
            if needed:
                slice_ |= {"job": job.pk, "model": model, "clear": job.clear_existing, "no": False}
                cursor.execute(INSERT, slice_)
        cursor.execute(COUNT_TRACKS, [job.pk, job.planned_until, until])
        tracks = 0 if job.plans else cursor.fetchone()[0]  # planned again, all is counted at the end
        BatchJob.objects.filter(pk=job.pk).update(planned_until=until, total_tracks=F("total_tracks") + tracks)
    job.refresh_from_db()
    return True


def _end_of_slice(job: BatchJob, spaces: dict[str, EmbeddingSpace]) -> str:
    """Return the id of the slice's last track; empty when no track is left.

    With a limit, only tracks that need work count; else one slice is like another.
    """
    left = TRACKS_A_SLICE if job.limit is None else min(TRACKS_A_SLICE, job.limit - job.total_tracks)
    parameters = _scope(job) | {
        "everything": job.limit is None or job.clear_existing,
        "models": len(spaces),
        "tracks": max(0, left),
    }
    with connection.cursor() as cursor:
        cursor.execute(SLICE.format(spaces=",".join(str(space.pk) for space in spaces.values())), parameters)
        return cursor.fetchone()[0] or ""


def _scope(job: BatchJob) -> dict[str, str | int | bool | None]:
    return {"after": job.planned_until, "library": job.library_id, "prefix": job.path_prefix, "only": job.only_track}


def _count(job: BatchJob, model: str, seen: int, needed: int, seconds: float) -> None:
    progress = ModelProgress.objects.get(job=job, model=model)
    progress.total += needed
    progress.audio_seconds_total += seconds
    if seen > needed:
        progress.skipped["up to date"] = progress.skipped.get("up to date", 0) + seen - needed
    progress.save(update_fields=["total", "audio_seconds_total", "skipped"])
