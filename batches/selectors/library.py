"""What the library looks like from here: the figures of ``library_status`` and of the console."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, OuterRef, Q

from batches.models import BatchJob, TrackResult
from batches.selectors.progress import contract_progress
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.index.ownership import notice
from embeddings.index.sync import verify
from embeddings.library.away import away
from embeddings.library.bad_files import bad_files
from embeddings.models import Embedding, Track
from embeddings.spaces.lifecycle import live_space


def library_status(*, ask_milvus: bool = False) -> dict[str, Any]:
    """Return counts of tracks, bad files and vectors; with ``ask_milvus`` also what Milvus holds.

    Raises IndexUnavailable. embedded + failed + missing = playable. ``indexed`` counts rows marked as being in Milvus.
    """
    playable = Track.objects.filter(playable=True).count()
    job = BatchJob.objects.first()
    return {
        "tracks": Track.objects.count(),
        "playable": playable,
        "bad_files": _bad_files(),
        "away": [{"folder": each.folder, "tracks": each.tracks, "since": each.since.isoformat()} for each in away()],
        "notice": notice(),
        "models": {model: _model_status(model, playable, ask_milvus) for model in MODEL_KEYS},
        "last_job": job and {"id": job.pk, **contract_progress(job)},
    }


def _model_status(model: str, playable: int, ask_milvus: bool) -> dict[str, Any]:
    space = live_space(model)
    vectors = Embedding.objects.filter(space=space)
    embedded = vectors.filter(track__playable=True).count()
    counts = vectors.aggregate(  # apart, because the join leaves out vectors whose track has no row
        total=Count("pk"),
        indexed=Count("pk", filter=Q(index_state=Embedding.IndexState.INDEXED)),
    )
    failed = _failed_tracks(model, space.pk if space else None)
    status: dict[str, Any] = {
        "embedded": embedded,
        "missing": playable - embedded - failed,
        "failed": failed,
        "orphaned": counts["total"] - embedded,
        "indexed": counts["indexed"],
    }
    if ask_milvus and space:
        found = verify(space)
        status["in_milvus"] = found.in_index
        status["consistent"] = not found.missing and not found.surplus
    return status


def _bad_files() -> dict[str, int]:
    """Files that no job tries again until they change, and how many of them somebody has acknowledged."""
    files = bad_files().order_by().values("track").distinct()
    return {"files": files.count(), "ignored": files.filter(ignored=True).count()}


def _failed_tracks(model: str, space: int | None) -> int:
    """Playable tracks without a vector whose attempts have failed."""
    failures = TrackResult.objects.filter(track=OuterRef("pk"), model=model, status=TrackResult.Status.FAILED)
    vectors = Embedding.objects.filter(track=OuterRef("pk"), space=space)
    return Track.objects.filter(Exists(failures), ~Exists(vectors), playable=True).count()
