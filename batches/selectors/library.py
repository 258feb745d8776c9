"""What the library looks like from here: the figures of ``library_status`` and of the console."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from batches.models import BatchJob, TrackResult
from batches.selectors.progress import contract_progress
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.index.ownership import notice
from embeddings.index.sync import verify
from embeddings.library.away import away
from embeddings.library.bad_files import bad_files
from embeddings.models import Embedding, EmbeddingSpace, Track

NO_VECTORS = {"total": 0, "embedded": 0, "indexed": 0}


def library_status(*, ask_milvus: bool = False) -> dict[str, Any]:
    """Return counts of tracks, bad files and vectors, what is away, and the last job.

    With ``ask_milvus`` also what Milvus holds; raises IndexUnavailable then.
    """
    job = BatchJob.objects.first()
    status = library_counts() | {
        "away": [{"folder": each.folder, "tracks": each.tracks, "since": each.since.isoformat()} for each in away()],
        "notice": notice(),
        "last_job": job and {"id": job.pk, **contract_progress(job)},
    }
    if ask_milvus:
        for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE):
            found = verify(space)
            status["models"][space.model] |= {
                "in_milvus": found.in_index,
                "consistent": not found.missing and not found.surplus,
            }
    return status


def library_counts() -> dict[str, Any]:
    """Return counts of tracks, bad files and vectors, in six queries, most over whole tables.

    embedded + failed + missing = playable. ``indexed`` counts rows marked as being in Milvus.
    """
    tracks = Track.objects.aggregate(tracks=Count("pk"), playable=Count("pk", filter=Q(playable=True)))
    vectors, failed = _vectors(), _failed_tracks()
    return {
        **tracks,
        "bad_files": _bad_files(),
        "models": {
            model: _model_counts(tracks["playable"], vectors.get(model, NO_VECTORS), failed.get(model, 0))
            for model in MODEL_KEYS
        },
    }


def _model_counts(playable: int, vectors: dict[str, int], failed: int) -> dict[str, int]:
    embedded = vectors["embedded"]
    return {
        "embedded": embedded,
        "missing": playable - embedded - failed,
        "failed": failed,
        "orphaned": vectors["total"] - embedded,
        "indexed": vectors["indexed"],
    }


def _vectors() -> dict[str, dict[str, int]]:
    """Count the live vectors by model: each of the three counts has an index of its own."""
    live = Embedding.objects.filter(space__status=EmbeddingSpace.Status.LIVE)
    waiting = _by_model(live.filter(~Q(index_state=Embedding.IndexState.INDEXED)))
    embedded = _by_model(live.filter(track__playable=True))
    return {
        model: {"total": total, "embedded": embedded.get(model, 0), "indexed": total - waiting.get(model, 0)}
        for model, total in _by_model(live).items()
    }


def _by_model(vectors: QuerySet[Embedding]) -> dict[str, int]:
    return dict(vectors.values_list("space__model").annotate(Count("pk")))


def _bad_files() -> dict[str, int]:
    """Files that no job tries again until they change, and how many of them somebody has acknowledged."""
    return bad_files().aggregate(
        files=Count("track", distinct=True), ignored=Count("track", distinct=True, filter=Q(ignored=True))
    )


def _failed_tracks() -> dict[str, int]:
    """Count by model the playable tracks without a vector whose attempts have failed."""
    vectors = Embedding.objects.filter(
        track=OuterRef("track"), space__model=OuterRef("model"), space__status=EmbeddingSpace.Status.LIVE
    )
    failures = TrackResult.objects.filter(~Exists(vectors), status=TrackResult.Status.FAILED, track__playable=True)
    return dict(failures.values_list("model").annotate(Count("track", distinct=True)))
