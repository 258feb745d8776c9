"""Decides what a job has to do and writes it down as rows, in slices, so that it can go on where it was."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db import connection, transaction
from django.db.models import F

from batches.lanes import Lease
from batches.models import BatchJob, ModelProgress
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description
from embeddings.errors import FingerprintChanged
from embeddings.library.sync import sync_tracks
from embeddings.models import EmbeddingSpace
from embeddings.spaces import WRITABLE, fingerprint_of, live_space, space_for

TRACKS_A_SLICE = 20_000  # with three models 60,000 rows

# A track needs work when there is no vector, the file has changed since, or everything is asked for anew.
NEEDS_WORK = "(%(clear)s OR e.id IS NULL OR e.size <> t.size OR e.mtime <> t.mtime)"
IN_SCOPE = """t.playable AND t.id > %(after)s
    AND (CAST(%(library)s AS INTEGER) IS NULL OR t.library_id = %(library)s)
    AND SUBSTR(t.path, 1, LENGTH(%(prefix)s)) = %(prefix)s"""
INSERT = f"""
    INSERT INTO batches_trackresult (job_id, track_id, model, status, attempts, deaths,
                                     error_class, error_message, traceback)
    SELECT %(job)s, t.id, %(model)s, 'pending', 0, 0, '', '', ''
    FROM embeddings_track t
    LEFT JOIN embeddings_embedding e ON e.track_id = t.id AND e.space_id = %(space)s
    WHERE {IN_SCOPE} AND t.id <= %(until)s AND {NEEDS_WORK} ORDER BY t.id"""
COUNT = f"""
    SELECT COUNT(*), COALESCE(SUM(CASE WHEN {NEEDS_WORK} THEN 1 ELSE 0 END), 0),
           COALESCE(SUM(CASE WHEN {NEEDS_WORK} THEN t.duration END), 0)
    FROM embeddings_track t
    LEFT JOIN embeddings_embedding e ON e.track_id = t.id AND e.space_id = %(space)s
    WHERE {IN_SCOPE} AND t.id <= %(until)s"""
SLICE = f"""
    SELECT MAX(slice.id) FROM (
        SELECT t.id FROM embeddings_track t WHERE {IN_SCOPE}
        AND (%(everything)s OR (SELECT COUNT(*) FROM embeddings_embedding e WHERE e.track_id = t.id
             AND e.space_id IN ({{spaces}}) AND e.size = t.size AND e.mtime = t.mtime) < %(models)s)
        ORDER BY t.id LIMIT %(tracks)s
    ) slice"""
COUNT_TRACKS = (
    "SELECT COUNT(DISTINCT track_id) FROM batches_trackresult WHERE job_id = %s AND track_id > %s AND track_id <= %s"
)


def plan(job: BatchJob, lease: Lease) -> None:
    """Write the rows of ``job``; a cancel ends it after a slice.

    Raises LibraryUnavailable, WeightsMissing, WeightsUnusable, EmbedderUnavailable, FingerprintChanged, LaneLost.
    """
    spaces = _spaces(job, lease)
    if not job.planned_until:
        sync_tracks(fence=lease.renew)
    while _plan_slice(job, lease, spaces):
        if job.status == BatchJob.Status.CANCELLING:
            return
    with transaction.atomic():
        lease.renew()
        BatchJob.objects.filter(pk=job.pk).update(planned=True)
    job.refresh_from_db()


def _spaces(job: BatchJob, lease: Lease) -> dict[str, EmbeddingSpace]:
    """Return, and write down, the space in which each model works."""
    client = EmbedderClient(lease.device)
    spaces = {}
    for progress in job.progress.select_related("space"):
        space = progress.space or _space(job, progress.model, client.describe(progress.model))
        ModelProgress.objects.filter(pk=progress.pk).update(space=space)
        spaces[progress.model] = space
        lease.renew()
    return spaces


def _space(job: BatchJob, model: str, description: Description) -> EmbeddingSpace:
    live = live_space(model)
    if job.is_restricted and live and live.fingerprint != fingerprint_of(description):
        raise FingerprintChanged(
            f"the weights or the recipe of {model} have changed: a job over a part of the library "
            "would mix vectors that cannot be compared. Start one over the whole library."
        )
    return space_for(model, description)


def require_same_weights(spaces: Mapping[str, EmbeddingSpace], models: Iterable[str], client: EmbedderClient) -> None:
    """Raise FingerprintChanged unless the embedder still makes the vectors that the job's spaces hold."""
    for model in models:
        space = spaces.get(model)
        if not space or space.status not in WRITABLE or space.fingerprint != fingerprint_of(client.describe(model)):
            raise FingerprintChanged(
                f"the weights or the recipe of {model} have changed since this job was planned; start a new one"
            )


def _plan_slice(job: BatchJob, lease: Lease, spaces: dict[str, EmbeddingSpace]) -> bool:
    """Plan the next slice of tracks in one transaction; False when there are no more."""
    until = _end_of_slice(job, spaces)
    if not until:
        return False
    with transaction.atomic(), connection.cursor() as cursor:
        lease.renew()
        for model, space in spaces.items():
            slice_ = _scope(job) | {"until": until, "space": space.pk, "clear": job.clear_existing}
            cursor.execute(COUNT, slice_)
            seen, needed, seconds = cursor.fetchone()
            cursor.execute(INSERT, slice_ | {"job": job.pk, "model": model})
            _count(job, model, seen - needed, needed, seconds)
        cursor.execute(COUNT_TRACKS, [job.pk, job.planned_until, until])
        tracks = cursor.fetchone()[0]
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
    return {"after": job.planned_until, "library": job.library_id, "prefix": job.path_prefix}


def _count(job: BatchJob, model: str, skipped: int, needed: int, seconds: float) -> None:
    progress = ModelProgress.objects.get(job=job, model=model)
    progress.total += needed
    progress.audio_seconds_total += seconds
    if skipped:
        progress.skipped["up to date"] = progress.skipped.get("up to date", 0) + skipped
    progress.save(update_fields=["total", "audio_seconds_total", "skipped"])
