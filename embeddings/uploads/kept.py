"""Vectors of uploads, until a job takes them over or a week has gone by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from django.utils import timezone

from embeddings.embedder.work import TrackOutcome
from embeddings.encoders.registry import encoder_class
from embeddings.models import Embedding, Upload, UploadEmbedding
from embeddings.spaces.vectors import to_bytes

KEEP_EMBEDDINGS = timedelta(days=7)
KEEP_UPLOADS = timedelta(days=30)


def known(name: str, fingerprints: Mapping[str, str], audio_hash: str) -> set[str]:
    """Return the models that need not hear this audio: there is a vector of it, of an upload or of a track.

    A track's is copied, because both files may stay.
    """
    models = {fingerprint: model for model, fingerprint in fingerprints.items()}
    uploads = UploadEmbedding.objects.filter(fingerprint__in=models, audio_hash=audio_hash)
    found = set(uploads.values_list("fingerprint", flat=True))
    uploads.update(created_at=timezone.now())
    tracks = Embedding.objects.filter(audio_hash=audio_hash, space__fingerprint__in=models.keys() - found)
    copies = {}
    for row in tracks.exclude(windows=0).select_related("space"):
        copies[row.space.fingerprint] = UploadEmbedding(
            model=row.space.model,
            fingerprint=row.space.fingerprint,
            audio_hash=audio_hash,
            name=name,
            windows=row.windows,
            audio_seconds=row.audio_seconds,
            vector=row.vector,
        )
    UploadEmbedding.objects.bulk_create(copies.values(), ignore_conflicts=True)
    return {models[fingerprint] for fingerprint in found | copies.keys()}


def keep(name: str, fingerprints: Mapping[str, str], outcomes: Iterable[TrackOutcome]) -> set[str]:
    """Keep the vectors that came out; returns their models."""
    rows = [
        UploadEmbedding(
            model=model,
            fingerprint=fingerprints[model],
            audio_hash=outcome.audio.audio_hash,
            name=name,
            windows=found.windows,
            audio_seconds=outcome.audio.audio_seconds,
            vector=to_bytes(found.vector, encoder_class(model).stored_dtype),
            sound=bytes.fromhex(outcome.audio.sound),
        )
        for outcome in outcomes
        if outcome.audio
        for model, found in outcome.vectors.items()
    ]
    UploadEmbedding.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["fingerprint", "audio_hash"],
        update_fields=["windows", "audio_seconds", "created_at", "vector"],
    )
    return {row.model for row in rows}


def forget_old() -> int:
    """Delete what nobody has taken over within a week, and the month-old list of uploads; returns how many rows."""
    now = timezone.now()
    embeddings = UploadEmbedding.objects.filter(created_at__lt=now - KEEP_EMBEDDINGS).delete()[0]
    return embeddings + Upload.objects.filter(received_at__lt=now - KEEP_UPLOADS).delete()[0]
