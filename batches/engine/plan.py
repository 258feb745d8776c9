"""Decides what a job has to do and writes it down as rows, in slices, so that it can go on where it was."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from django.db import connection, transaction
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from batches.engine import hosts
from batches.engine.due import DUE, IN_SCOPE, Counts, Scope, Wanted, count, end_of_slice, wanted
from batches.engine.leases import DeviceLease
from batches.models import BatchJob, Device, ModelProgress, TrackResult
from embeddings.embedder.client import EmbedderClient
from embeddings.encoders.base import Description
from embeddings.errors import FingerprintChanged
from embeddings.library import bad_files, new_ids
from embeddings.library.base import Tell, tell_nobody
from embeddings.library.sync import sync_tracks
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import fingerprint_of, live_space, space_for
from embeddings.spaces.reuse import take_over_moved
from navembed_site.process.slow_calls import RaiseIfStopped, patiently

TRACKS_A_SLICE = 20_000  # with three models 60,000 rows
LAST_PLAN = 4

Status = TrackResult.Status
DONE = (Status.SUCCEEDED, Status.FAILED)

# Planned again at the end of a build: what has changed meanwhile is done again, what failed stays so.
INSERT = f"""
    INSERT INTO batches_trackresult (job_id, track_id, model, status, reason, recognised, attempts, deaths,
                                     error_class, error_message, traceback)
    SELECT %(job)s, t.id, %(model)s, 'pending', {{reason}}, %(no)s, 0, 0, '', '', ''
    FROM embeddings_track t {{vectors}}
    WHERE {IN_SCOPE} AND t.id <= %(until)s AND {{verdict}} = '{DUE}' ORDER BY t.id
    ON CONFLICT (job_id, track_id, model) DO UPDATE
    SET status = 'pending', reason = 'changed', recognised = excluded.recognised, attempts = 0, deaths = 0,
        finished_at = NULL
    WHERE batches_trackresult.status = 'succeeded'"""
COUNT_TRACKS = (
    "SELECT COUNT(DISTINCT track_id) FROM batches_trackresult WHERE job_id = %s AND track_id > %s AND track_id <= %s"
)


def plan(job: BatchJob, lease: DeviceLease, raise_if_stopped: RaiseIfStopped, tell: Tell = tell_nobody) -> None:
    """Write the rows of ``job``, or what has changed since they were written.

    ``raise_if_stopped`` is called about once a second, also within transactions, and stops the planning by raising.
    ``tell`` is called, outside of them, with what is being done.
    Raises LibraryUnavailable, WeightsMissing, WeightsUnusable, EmbedderUnavailable, FingerprintChanged, LeaseLost.
    """

    def look_and_tell(doing: str) -> None:
        raise_if_stopped()
        tell(doing)

    spaces = _spaces(job, lease, lambda: look_and_tell("asking the embedder about the models"))
    begins = not job.planned_until
    if begins:
        tell("reading the library")
        sync_tracks(raise_if_stopped=raise_if_stopped, tell=look_and_tell)
    tell("looking which tracks need work")
    if begins and not job.is_restricted:
        _take_over_moved(job, spaces, raise_if_stopped)
        bad_files.follow_new_ids(raise_if_stopped)
        new_ids.follow_moved(raise_if_stopped)
    while _plan_slice(job, spaces, raise_if_stopped):
        pass
    again = job.plans > 0
    found = again and TrackResult.objects.filter(job=job, status=TrackResult.Status.PENDING).exists()
    if found:
        recount(job, raise_if_stopped)
    with transaction.atomic():
        raise_if_stopped()
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


def recount(job: BatchJob, raise_if_stopped: RaiseIfStopped = lambda: None) -> None:
    """Set the counters to what the rows say, while nobody else writes any: nobody works yet, or the caller locks them.

    It reads them all, in seconds for a million tracks, before the transaction in which it writes.
    """
    rows = TrackResult.objects.filter(job=job)
    done, failed = Q(status__in=DONE), Q(status=Status.FAILED)
    by_model = {}
    for model in job.model_keys:
        raise_if_stopped()
        by_model[model] = rows.filter(model=model).aggregate(
            total=Count("pk"),
            succeeded=Count("pk", filter=Q(status=Status.SUCCEEDED)),
            failed=Count("pk", filter=failed),
            audio_seconds_total=Coalesce(Sum("track__duration"), 0.0),
            audio_seconds_done=Coalesce(Sum("track__duration", filter=done), 0.0),
        )
    raise_if_stopped()
    tracks = rows.values("track").annotate(left=Count("pk", filter=~done), bad=Count("pk", filter=failed))
    counted = tracks.aggregate(
        total_tracks=Count("track"),
        processed_tracks=Count("track", filter=Q(left=0, bad=0)),
        failed_tracks=Count("track", filter=Q(left=0, bad__gt=0)),
    )
    with transaction.atomic():
        raise_if_stopped()
        for model, counts in by_model.items():
            ModelProgress.objects.filter(job=job, model=model).update(**counts)
        BatchJob.objects.filter(pk=job.pk).update(**counted)


def _spaces(job: BatchJob, lease: DeviceLease, raise_if_stopped: RaiseIfStopped) -> dict[str, EmbeddingSpace]:
    """Return, and write down, the space in which each model works."""
    client = EmbedderClient(lease.device.index)
    spaces = {}
    for progress in job.progress.filter(left_out="").select_related("space"):
        model = progress.model
        space = progress.space
        if space is None:
            description = patiently(partial(client.describe, model), raise_if_stopped)
            _require_same_weights(lease.device, model, fingerprint_of(description))
            space = _space(job, model, description)
        ModelProgress.objects.filter(pk=progress.pk).update(space=space)
        spaces[model] = space
    return spaces


def _require_same_weights(device: Device, model: str, fingerprint: str) -> None:
    """Raise FingerprintChanged when another host goes on with what search uses, and this one has other weights.

    Else a job that happened to be planned here would embed the whole library anew.
    """
    live = live_space(model)
    if live is None or live.fingerprint == fingerprint:
        return
    for other in hosts.at_work().exclude(pk=device.pk).select_related("host"):
        if other.fingerprints.get(model) == live.fingerprint:
            raise FingerprintChanged(
                f"the weights of {model} on {device.host} are not those on {other.host}, with which the library was "
                "embedded: `manage.py fetch_models` on both makes them the same"
            )


def _take_over_moved(job: BatchJob, spaces: dict[str, EmbeddingSpace], raise_if_stopped: RaiseIfStopped) -> None:
    """Files that only have a new id keep their vectors; they then count as up to date."""
    for model, space in spaces.items():
        if count := take_over_moved(space, raise_if_stopped):
            progress = ModelProgress.objects.get(job=job, model=model)
            progress.skipped["new id"] = progress.skipped.get("new id", 0) + count
            progress.save(update_fields=["skipped"])


def _space(job: BatchJob, model: str, description: Description) -> EmbeddingSpace:
    asked = _wanted(job, model, fingerprint_of(description))
    if not asked.in_place:
        return space_for(model, description, anew=job.clear_existing)
    if asked.space is None or asked.space.fingerprint != asked.fingerprint:
        raise FingerprintChanged(
            f"the weights or the recipe of {model} have changed: a job over a part of the library "
            "would mix vectors that cannot be compared. Start one over the whole library."
        )
    return asked.space


def _wanted(job: BatchJob, model: str, fingerprint: str) -> Wanted:
    return wanted(
        model,
        fingerprint,
        clear=job.clear_existing,
        restricted=job.is_restricted,
        retry_bad_files=job.retry_bad_files,
        only_failed=job.only_failed,
    )


def _plan_slice(job: BatchJob, spaces: dict[str, EmbeddingSpace], raise_if_stopped: RaiseIfStopped) -> bool:
    """Plan the next slice of tracks in one transaction; False when there are no more."""
    # Of the space that was chosen at the start: another job may have made one live since.
    asked = [replace(_wanted(job, model, space.fingerprint), space=space) for model, space in spaces.items()]
    scope: Scope = {
        "after": job.planned_until, "library": job.library_id, "prefix": job.path_prefix, "only": job.only_track,
        "failed": job.failed_with,
    }  # fmt: skip
    most = TRACKS_A_SLICE if job.limit is None else min(TRACKS_A_SLICE, job.limit - job.total_tracks)
    until = end_of_slice(asked, scope, most, due_only=job.limit is not None)
    if not until:
        return False
    with transaction.atomic(), connection.cursor() as cursor:
        raise_if_stopped()
        for each in asked:
            counts = count(each, each.verdict, scope, until)
            has_due = DUE in counts
            if not job.plans:
                _count(job, each.model, counts)
            if has_due:
                values = scope | {"until": until, "job": job.pk, "model": each.model, "no": False}
                cursor.execute(INSERT.format(vectors=each.vectors, verdict=each.verdict, reason=each.reason), values)
        cursor.execute(COUNT_TRACKS, [job.pk, job.planned_until, until])
        tracks = 0 if job.plans else cursor.fetchone()[0]  # planned again, all is counted at the end
        BatchJob.objects.filter(pk=job.pk).update(planned_until=until, total_tracks=F("total_tracks") + tracks)
    job.refresh_from_db()
    return True


def _count(job: BatchJob, model: str, counts: Counts) -> None:
    progress = ModelProgress.objects.get(job=job, model=model)
    due, seconds = counts.pop(DUE, (0, 0.0))
    progress.total += due
    progress.audio_seconds_total += seconds
    for verdict, (number, _) in counts.items():
        progress.skipped[verdict] = progress.skipped.get(verdict, 0) + number
    progress.save(update_fields=["total", "audio_seconds_total", "skipped"])
