"""What a commit counts: a job's progress, and how fast the device is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from django.db.models import F

from batches.engine import pace
from batches.models import BatchJob, Device, ModelProgress, TrackResult
from embeddings.models import EmbeddingSpace

Status = TrackResult.Status


def measure(rows: Iterable[TrackResult], wall_seconds: float) -> dict[str, float]:
    """Return by model the audio seconds per second of work; decoding and waiting are shared by what models cost."""
    good = [row for row in rows if row.status == Status.SUCCEEDED and row.seconds]
    device_seconds = sum(row.seconds or 0 for row in good)
    audio: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    for row in good:
        audio[row.model] += row.audio_seconds or 0
        seconds[row.model] += wall_seconds * (row.seconds or 0) / device_seconds
    return {model: audio[model] / share for model, share in seconds.items() if share > 0}


def keep_figures(device: Device, measured: Mapping[str, float], spaces: Mapping[str, EmbeddingSpace]) -> None:
    """Write down how fast the device is with these models, and which vectors its weights make."""
    if measured:
        device.rates |= {model: pace.rolling(device.rates.get(model), rate) for model, rate in measured.items()}
        device.fingerprints |= {model: spaces[model].fingerprint for model in measured}
        device.save(update_fields=["rates", "fingerprints"])


def count_models(job: BatchJob, rows: Sequence[TrackResult], measured: Mapping[str, float]) -> None:
    """Advance each model's counters and its rolling rate."""
    # Also keeps two devices from counting at once: each would see the other's rows of a track as open.
    for progress in ModelProgress.objects.select_for_update().filter(job=job).order_by("pk"):
        mine = [row for row in rows if row.model == progress.model and row.status != Status.PENDING]
        if not mine:
            continue
        good = sum(row.status == Status.SUCCEEDED for row in mine)
        progress.succeeded += good
        progress.failed += len(mine) - good
        progress.audio_seconds_done += sum(row.track.duration for row in mine)
        if progress.model in measured:
            progress.rate = pace.rolling(progress.rate, measured[progress.model])
        progress.save(update_fields=["succeeded", "failed", "audio_seconds_done", "rate"])


def count_tracks(job: BatchJob, track_ids: set[str]) -> None:
    """Count the tracks of this chunk that have no row left to do."""
    rows = TrackResult.objects.filter(job=job, track_id__in=track_ids)
    open_ids = set(rows.filter(status__in=TrackResult.OPEN).values_list("track_id", flat=True))
    failed_ids = set(rows.filter(status=Status.FAILED).values_list("track_id", flat=True)) - open_ids
    BatchJob.objects.filter(pk=job.pk).update(
        processed_tracks=F("processed_tracks") + len(track_ids - open_ids - failed_ids),
        failed_tracks=F("failed_tracks") + len(failed_ids),
    )
