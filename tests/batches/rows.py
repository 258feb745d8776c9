"""Rows as a job would write them, without the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from django.utils import timezone

from batches import services
from batches.engine import hosts, leases
from batches.engine.leases import DeviceLease
from batches.engine.runner import run_device
from batches.models import TERMINAL, BatchJob, Device, Host, ModelProgress, TrackResult
from batches.requests import JobRequest
from embeddings.audio.summary import AudioSummary
from embeddings.embedder.work import Failure, TrackOutcome, TrackVector
from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.vectors import to_bytes

DIMENSION = 8
SECONDS = 2.0  # of audio, of each track
VECTOR = np.eye(1, DIMENSION, dtype=np.float32)[0]


def make_space(model: str = "muq", fingerprint: str = "f", **fields: Any) -> EmbeddingSpace:
    """A live space of ``DIMENSION`` numbers."""
    fields = {"dimension": DIMENSION, "recipe": {}, "status": EmbeddingSpace.Status.LIVE} | fields
    return EmbeddingSpace.objects.create(model=model, fingerprint=fingerprint, **fields)


def make_track(track_id: str, **fields: Any) -> Track:
    """A playable track in ``/music``."""
    fields = {
        "library_id": 1, "path": f"/music/{track_id}.flac", "title": track_id, "artist": "Artist", "duration": SECONDS,
        "size": 1000, "mtime": "2024", "playable": True, "scan": 1,
    } | fields  # fmt: skip
    return Track.objects.create(id=track_id, **fields)


def make_tracks(count: int) -> list[Track]:
    """Tracks t000, t001, …"""
    return [make_track(f"t{number:03}") for number in range(count)]


def make_embedding(space: EmbeddingSpace, track: Track, **fields: Any) -> Embedding:
    """A vector that is up to date."""
    fields = {
        "windows": 1, "audio_seconds": SECONDS, "size": track.size, "mtime": track.mtime, "audio_hash": "a",
        "vector": to_bytes(VECTOR, encoder_class(space.model).stored_dtype),
    } | fields  # fmt: skip
    return Embedding.objects.create(space=space, track=track, **fields)


def make_job(tracks: Sequence[Track], models: Sequence[str] = ("muq",), **options: Any) -> BatchJob:
    """A planned job that has to embed all ``tracks``."""
    job = services.start_job(JobRequest(models, **options))
    for progress in job.progress.all():
        progress.space = EmbeddingSpace.objects.filter(model=progress.model, status="live").first()
        progress.space = progress.space or make_space(progress.model)
        progress.total = len(tracks)
        progress.audio_seconds_total = sum(track.duration for track in tracks)
        progress.save()
    TrackResult.objects.bulk_create(
        TrackResult(job=job, track=track, model=model) for track in tracks for model in models
    )
    BatchJob.objects.filter(pk=job.pk).update(planned=True, total_tracks=len(tracks))
    job.refresh_from_db()
    return job


def set_status(job: BatchJob, status: str) -> BatchJob:
    """Put the job into this status."""
    ended = timezone.now() if status in TERMINAL else None
    BatchJob.objects.filter(pk=job.pk).update(status=status, finished_at=ended)
    job.refresh_from_db()
    return job


def device(index: int = 0) -> Device:
    """A device of this host."""
    return Device.objects.get_or_create(host=hosts.announce(), index=index)[0]


def elsewhere(key: str = "ffff", **fields: Any) -> Device:
    """A device of another host, which is there."""
    host, _ = Host.objects.get_or_create(key=key, defaults={"name": key, "seen_at": timezone.now()})
    return Device.objects.create(host=host, **{"index": 0} | fields)


def take_device(index: int = 0) -> DeviceLease:
    """Take the lease of a device of this host from its holder."""
    Device.objects.filter(pk=device(index).pk).update(lease_until=None)
    lease = leases.take(device(index).pk, device(index).seq)
    assert lease
    return lease


def work_on(index: int = 0) -> str:
    """Do a time slice's work with a device of this host; returns how it ended."""
    return run_device(device(index).pk, device(index).seq)


def audio() -> AudioSummary:
    return AudioSummary(SECONDS, SECONDS, 0, "a" * 64, "flac", 44_100, 2)


def success(track: Track, *models: str, seconds: float = 1.0) -> TrackOutcome:
    vectors = {model: TrackVector(VECTOR, 1, seconds, "bfloat16") for model in models or ("muq",)}
    return TrackOutcome(track.id, vectors=vectors, audio=audio())


def failure(track: Track, *models: str, permanent: bool = True) -> TrackOutcome:
    kind = "AudioError" if permanent else "DecoderDied"
    told = Failure(kind, "it is damaged", "decode", permanent, "")
    return TrackOutcome(track.id, failures=dict.fromkeys(models or ("muq",), told))


def progress_of(job: BatchJob, model: str = "muq") -> ModelProgress:
    return job.progress.get(model=model)
