"""A chunk: some tracks with all their models, claimed, embedded and committed together."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from batches import events
from batches.engine import counters, hosts, pace
from batches.engine.leases import DeviceLease, requeue
from batches.models import BatchJob, Device, ModelProgress, TrackResult
from embeddings.embedder.work import Failure, TrackOutcome, TrackVector
from embeddings.encoders.registry import encoder_class
from embeddings.errors import FingerprintChanged
from embeddings.library import bad_files
from embeddings.library.away import looked_at
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import lock_for_writing
from embeddings.spaces.reuse import reuse_known_audio
from embeddings.spaces.vectors import to_bytes

LONG_TRACK_SECONDS = 30.0  # of estimated work: beyond this a track's rows are spooled as they come
MAX_ROWS = 600
MAX_ATTEMPTS = 3
MAX_DEATHS = 3  # of the embedder, the last of them on a track that was alone
PAUSES = (timedelta(seconds=10), timedelta(seconds=60))

Status = TrackResult.Status


@dataclass(frozen=True)
class ClaimedTrack:
    """A track of a chunk with its rows by model."""

    track: Track
    results: dict[str, TrackResult]
    estimated_seconds: float


@dataclass(frozen=True)
class Chunk:
    tracks: list[ClaimedTrack]
    spaces: dict[str, EmbeddingSpace]

    @property
    def rows(self) -> list[TrackResult]:
        return [row for claimed in self.tracks for row in claimed.results.values()]

    @property
    def is_suspect(self) -> bool:
        """Whether the embedder has died on one of these tracks: then they are embedded apart."""
        return any(row.chunk_limit for row in self.rows)


def claim(
    job: BatchJob, lease: DeviceLease, *, but_libraries: Collection[int] = (), but_models: Collection[str] = ()
) -> Chunk | None:
    """Claim the next tracks, some seconds of estimated work; None when nothing is ready.

    Tracks of ``but_libraries`` and results of ``but_models`` are left to others.
    Raises FingerprintChanged when a space of the job is not there any more.
    """
    wanted = job.progress.filter(left_out="").exclude(model__in=but_models)
    progress = {row.model: row for row in wanted.select_related("space")}
    spaces = {model: row.space for model, row in progress.items() if row.space}
    if absent := progress.keys() - spaces:
        raise FingerprintChanged(f"what the job was building with {', '.join(sorted(absent))} has been dropped")
    most_seconds = pace.chunk_seconds(progress.values(), [lease.device, *hosts.at_work().exclude(pk=lease.device.pk)])
    with transaction.atomic():
        lease.renew()
        now = timezone.now()
        # Further ahead than a pause can be: the clock was set back.
        is_ready = Q(not_before=None) | Q(not_before__lte=now) | Q(not_before__gt=now + max(PAUSES))
        rows = list(
            TrackResult.objects.filter(is_ready, job=job, status=Status.PENDING)
            .exclude(track__library_id__in=but_libraries)
            .exclude(model__in=but_models)
            .select_related("track")
            .select_for_update(skip_locked=True, of=("self",))
            .order_by("track_id", "model")[:MAX_ROWS]
        )
        # In hand when their model was left out, and given back since.
        _withdraw(job, [row for row in rows if row.model not in spaces])
        tracks = _cut_chunk([row for row in rows if row.model in spaces], lease.device, most_seconds)
        ids = [row.pk for claimed in tracks for row in claimed.results.values()]
        TrackResult.objects.filter(pk__in=ids).update(
            status=Status.RUNNING, attempts=F("attempts") + 1, device=lease.device
        )
    for claimed in tracks:
        for row in claimed.results.values():
            row.attempts += 1
    return Chunk(tracks, spaces) if tracks else None


def is_left(job: BatchJob) -> bool:
    """Whether a result is still to come; two queries because each has its index."""
    results = TrackResult.objects.filter(job=job)
    return any(results.filter(status=status).exists() for status in TrackResult.OPEN)


def is_in_hand(job: BatchJob) -> bool:
    """Whether some device has a chunk claimed."""
    return TrackResult.objects.filter(job=job, status=Status.RUNNING).exists()


def _cut_chunk(rows: Sequence[TrackResult], device: Device, most_seconds: float) -> list[ClaimedTrack]:
    """Take whole tracks until the chunk is full. Suspects, on which the embedder died, go apart from the others."""
    groups = [list(group) for _, group in itertools.groupby(rows, key=lambda row: row.track_id)]
    if len(rows) == MAX_ROWS and len(groups) > 1:
        groups.pop()  # its last rows may lie beyond the cut
    limits = [min((row.chunk_limit for row in group if row.chunk_limit), default=None) for group in groups]
    suspect = bool(limits and limits[0])
    chunk: list[ClaimedTrack] = []
    seconds, most = 0.0, MAX_ROWS
    for group, limit in zip(groups, limits, strict=True):
        track = group[0].track
        estimate = sum(pace.estimated_seconds(track, device, row.model) for row in group)
        most = min(most, limit or MAX_ROWS)
        if chunk and (bool(limit) != suspect or len(chunk) >= most or seconds + estimate > most_seconds):
            break
        chunk.append(ClaimedTrack(track, {row.model: row for row in group}, estimate))
        seconds += estimate
    return chunk


def commit(
    job: BatchJob, lease: DeviceLease, chunk: Chunk, outcomes: Sequence[TrackOutcome], wall_seconds: float = 0.0
) -> None:
    """Write vectors, results and counters of the finished tracks in one transaction, fenced by the lease.

    Rows without an outcome stay claimed, for ``release`` or ``blame``. Safe to repeat when the answer of the
    database was lost. ``wall_seconds`` measures the rate; 0 when the work says nothing about it. Raises LeaseLost.
    """
    by_id = {claimed.track.id: claimed for claimed in chunk.tracks}
    with transaction.atomic():
        lease.renew()
        left = set(_claimed(chunk, lease).values_list("track_id", flat=True))
        outcomes = [outcome for outcome in _merged(outcomes) if outcome.id in left]
        if not outcomes:
            return  # nothing has come, or an earlier try has been committed
        finished = [row for outcome in outcomes for row in _settle_rows(by_id[outcome.id], outcome)]
        lock_for_writing(chunk.spaces[model] for model in {m for outcome in outcomes for m in outcome.vectors})
        _write_vectors(by_id, chunk.spaces, outcomes)
        _keep_bad_files(chunk, finished, outcomes)
        _finish(job, finished, measured := counters.measure(finished, wall_seconds))
        counters.keep_figures(lease.device, measured, chunk.spaces)


def settle_known(job: BatchJob, lease: DeviceLease, chunk: Chunk, hashes: Mapping[str, str]) -> Chunk:
    """Settle the tracks whose audio has a vector already, by their ``hashes``; returns what is left to embed."""
    by_id = {claimed.track.id: claimed for claimed in chunk.tracks}
    known: list[TrackResult] = []
    with transaction.atomic():
        lease.renew()
        lock_for_writing(chunk.spaces.values())
        for model, space in chunk.spaces.items():
            tracks = [claimed.track for claimed in chunk.tracks if model in claimed.results]
            settled = reuse_known_audio(space, {track: hashes.get(track.id, "") for track in tracks})
            known += [by_id[track_id].results[model] for track_id in settled]
        for row in known:
            row.status, row.recognised, row.device, row.finished_at = Status.SUCCEEDED, True, None, timezone.now()
            row.error_class = row.error_message = row.traceback = ""
        _finish(job, known, {})
    return _without(chunk, {row.pk for row in known})


def _without(chunk: Chunk, settled: set[int]) -> Chunk:
    tracks = []
    for claimed in chunk.tracks:
        if results := {model: row for model, row in claimed.results.items() if row.pk not in settled}:
            tracks.append(replace(claimed, results=results))
    return replace(chunk, tracks=tracks)


def _finish(job: BatchJob, rows: list[TrackResult], measured: Mapping[str, float]) -> None:
    # They are there, every row conflicts. `bulk_update` takes seven times as long, with the database locked.
    TrackResult.objects.bulk_create(
        rows,
        batch_size=100,
        update_conflicts=True,
        unique_fields=["pk"],
        update_fields=["status", "device", "not_before", "error_class", "error_message", "traceback",
                       "note", "recognised", "seconds", "precision", "audio_seconds", "finished_at"],
    )  # fmt: skip
    counters.count_models(job, rows, measured)
    counters.count_tracks(job, {row.track_id for row in rows})


def release(chunk: Chunk, lease: DeviceLease) -> None:
    """Queue what is left of the chunk again: the work was interrupted by nobody's fault."""
    with transaction.atomic():
        lease.renew()
        requeue(_claimed(chunk, lease))


def set_aside(job: BatchJob, lease: DeviceLease, chunk: Chunk, track_ids: Collection[str]) -> None:
    """Take tracks whose music is away out of the job: they do not fail, and a later job finds them when it is back."""
    with transaction.atomic():
        lease.renew()
        rows = list(_claimed(chunk, lease).filter(track_id__in=track_ids).select_related("track"))
        _withdraw(job, rows, skipped="away")
        ids = {row.track_id for row in rows}
        Track.objects.filter(pk__in=ids, playable=True).update(playable=False, away_since=looked_at())


def _withdraw(job: BatchJob, rows: Sequence[TrackResult], *, skipped: str = "") -> None:
    """Take open results out of the job, and out of what it counts; ``skipped`` says what they count as."""
    if not rows:
        return
    TrackResult.objects.filter(pk__in=[row.pk for row in rows]).delete()
    for progress in ModelProgress.objects.select_for_update().filter(job=job).order_by("pk"):
        mine = [row.track for row in rows if row.model == progress.model]
        progress.total -= len(mine)
        progress.audio_seconds_total -= sum(track.duration for track in mine)
        if skipped:
            progress.skipped[skipped] = progress.skipped.get(skipped, 0) + len(mine)
        progress.save(update_fields=["total", "audio_seconds_total", "skipped"])
    ids = {row.track_id for row in rows}
    kept = set(TrackResult.objects.filter(job=job, track_id__in=ids).values_list("track_id", flat=True))
    BatchJob.objects.filter(pk=job.pk).update(total_tracks=F("total_tracks") - len(ids - kept))
    counters.count_tracks(job, kept)


def blame(job: BatchJob, lease: DeviceLease, chunk: Chunk, reason: str) -> None:
    """The embedder died on what is left of the chunk: halve it; fail a track that was alone, the third time.

    ``reason`` is shown with the rows: "killed the embedder: out of memory".
    """
    events.note(job, events.Kind.EMBEDDER_DIED, f"a track in hand {reason}")
    left = set(_claimed(chunk, lease).values_list("pk", flat=True))
    tracks = [claimed for claimed in chunk.tracks if any(row.pk in left for row in claimed.results.values())]
    if len(tracks) == 1 and (outcome := _poison(tracks[0], left, reason)):
        commit(job, lease, chunk, [outcome])
        return
    with transaction.atomic():
        lease.renew()
        _claimed(chunk, lease).update(
            status=Status.PENDING,
            device=None,
            deaths=F("deaths") + 1,
            chunk_limit=max(1, len(tracks) // 2),
            error_class="EmbedderDied",
            error_message=reason,
        )


def _poison(claimed: ClaimedTrack, left: set[int], reason: str) -> TrackOutcome | None:
    rows = {model: row for model, row in claimed.results.items() if row.pk in left}
    deaths = 1 + max(row.deaths for row in rows.values())
    if deaths < MAX_DEATHS:
        return None
    failure = Failure("EmbedderDied", f"{reason} ({deaths} times)", "encode", permanent=True, traceback="")
    return TrackOutcome(claimed.track.id, failures=dict.fromkeys(rows, failure))


def _claimed(chunk: Chunk, lease: DeviceLease) -> QuerySet[TrackResult]:
    """Return what this device still has of the chunk: what it has given back, another may have claimed since."""
    rows = TrackResult.objects.filter(pk__in=[row.pk for row in chunk.rows])
    return rows.filter(status=Status.RUNNING, device=lease.device)


def release_abandoned(job: BatchJob, lease: DeviceLease) -> None:
    """Queue again what a former holder of this device had claimed."""
    with transaction.atomic():
        lease.renew()
        requeue(TrackResult.objects.filter(job=job, device=lease.device))


def spool_name(claimed: ClaimedTrack, spaces: dict[str, EmbeddingSpace]) -> str:
    """Return where a very long track's rows are spooled; empty for an ordinary one.

    The name holds all that decides the rows, so that rows of another file or recipe are never taken up.
    """
    if claimed.estimated_seconds <= LONG_TRACK_SECONDS:
        return ""
    track = claimed.track
    identity = [track.id, track.path, track.size, track.mtime, *(spaces[m].fingerprint for m in sorted(spaces))]
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:32]


def _merged(outcomes: Iterable[TrackOutcome]) -> list[TrackOutcome]:
    """One outcome a track: models that took turns each brought their own."""
    merged: dict[str, TrackOutcome] = {}
    for new in outcomes:
        old = merged.get(new.id, TrackOutcome(new.id))
        merged[new.id] = TrackOutcome(
            new.id, old.vectors | new.vectors, old.failures | new.failures, new.audio or old.audio
        )
    return list(merged.values())


def _write_vectors(
    by_id: dict[str, ClaimedTrack], spaces: dict[str, EmbeddingSpace], outcomes: Iterable[TrackOutcome]
) -> None:
    rows = [
        _embedding(by_id[outcome.id].track, spaces[model], outcome, vector)
        for outcome in outcomes
        for model, vector in outcome.vectors.items()
    ]
    Embedding.objects.bulk_create(
        rows,
        batch_size=100,
        update_conflicts=True,
        unique_fields=["space", "track"],
        update_fields=[
            "windows",
            "audio_seconds",
            "size",
            "mtime",
            "audio_hash",
            "index_state",
            "updated_at",
            "vector",
        ],
    )


def _keep_bad_files(chunk: Chunk, rows: Iterable[TrackResult], outcomes: Iterable[TrackOutcome]) -> None:
    """Remember files that later jobs need not try, and forget those that have a vector now."""
    failures = {(outcome.id, model): found for outcome in outcomes for model, found in outcome.failures.items()}
    bad = []
    for row in rows:
        failure = failures.get((row.track_id, row.model))
        if row.status == Status.FAILED and failure and bad_files.is_the_files_fault(failure):
            bad.append(bad_files.Bad(row.track, chunk.spaces[row.model], failure))
    bad_files.remember(bad)
    bad_files.forget({outcome.id: outcome.vectors for outcome in outcomes if outcome.vectors})


def _embedding(track: Track, space: EmbeddingSpace, outcome: TrackOutcome, vector: TrackVector) -> Embedding:
    if outcome.audio is None:
        raise ValueError(f"{track.id} has a vector but no audio")
    return Embedding(
        space=space,
        track=track,
        windows=vector.windows,
        audio_seconds=outcome.audio.audio_seconds,
        size=track.size,
        mtime=track.mtime,
        audio_hash=outcome.audio.audio_hash,
        vector=to_bytes(vector.vector, encoder_class(space.model).stored_dtype),
    )


def _settle_rows(claimed: ClaimedTrack, outcome: TrackOutcome) -> list[TrackResult]:
    """Fill in the rows of one track; a passing failure is queued again with a pause, twice."""
    now = timezone.now()
    rows = []
    for model, row in claimed.results.items():
        if model in outcome.vectors:
            vector = outcome.vectors[model]
            row.status, row.seconds, row.precision = Status.SUCCEEDED, vector.seconds, vector.precision
            row.error_class = row.error_message = row.traceback = ""
        elif model in outcome.failures:
            _fail(row, outcome.failures[model])
        else:
            continue
        row.audio_seconds = outcome.audio.audio_seconds if outcome.audio else None
        row.note = outcome.audio.note if outcome.audio else ""
        row.device = None
        row.finished_at = None if row.status == Status.PENDING else now
        rows.append(row)
    return rows


def is_last_attempt(row: TrackResult) -> bool:
    return row.attempts >= MAX_ATTEMPTS


def _fail(row: TrackResult, failure: Failure) -> None:
    row.error_class, row.error_message, row.traceback = failure.error_class, failure.message, failure.traceback
    if failure.permanent or is_last_attempt(row):
        row.status = Status.FAILED
    else:
        row.status = Status.PENDING
        row.not_before = timezone.now() + PAUSES[min(row.attempts, len(PAUSES)) - 1]
