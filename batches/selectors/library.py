"""What the library looks like from here: the figures of ``library_status`` and of the console."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Exists, Q, QuerySet, Value

from batches.models import BatchJob
from batches.selectors.problems import live_vectors, passing_failures
from batches.selectors.progress import contract_progress
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.index.ownership import notice
from embeddings.index.sync import verify
from embeddings.library.away import away
from embeddings.library.bad_files import bad_files
from embeddings.models import Embedding, EmbeddingSpace, Track


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
    """Return counts of tracks, bad files and vectors, in four queries, most over whole tables.

    embedded + failed + ignored + missing = playable. ``indexed`` counts rows marked as being in Milvus.
    """
    tracks = Track.objects.aggregate(tracks=Count("pk"), playable=Count("pk", filter=Q(playable=True)))
    vectors, failed = _vectors(), _failed()
    return {
        **tracks,
        "bad_files": _bad_files(),
        "models": {model: _model_counts(tracks["playable"], vectors[model], failed[model]) for model in MODEL_KEYS},
    }


def _model_counts(playable: int, vectors: dict[str, int], failed: dict[str, int]) -> dict[str, int]:
    embedded, count = vectors["embedded"], failed["bad"] + failed["passing"]
    return {
        "embedded": embedded,
        "missing": playable - embedded - count - failed["ignored"],
        "failed": count,
        "ignored": failed["ignored"],
        "orphaned": vectors["total"] - embedded,
        "indexed": vectors["total"] - vectors["waiting"],
    }


def _vectors() -> dict[str, dict[str, int]]:
    """Count the live vectors by model: each of the three counts has an index of its own."""
    live = Embedding.objects.filter(space__status=EmbeddingSpace.Status.LIVE)
    waiting = live.filter(~Q(index_state=Embedding.IndexState.INDEXED))
    return _by_model("space__model", total=live, embedded=live.filter(track__playable=True), waiting=waiting)


def _failed() -> dict[str, dict[str, int]]:
    """Count by model the playable tracks without a vector that have failed."""
    bad = bad_files().filter(~Exists(live_vectors()))
    sets = {"bad": bad.filter(ignored=False), "ignored": bad.filter(ignored=True), "passing": passing_failures()}
    return _by_model("model", **sets)


def _by_model(model: str, **sets: QuerySet[Any]) -> dict[str, dict[str, int]]:
    """Count the rows of several sets by their model, in one query; ``model`` is the field that names it."""
    found = {key: dict.fromkeys(sets, 0) for key in MODEL_KEYS}
    counted = [
        rows.order_by().values_list(model).annotate(name=Value(name), rows=Count("pk")) for name, rows in sets.items()
    ]
    for key, name, rows in counted[0].union(*counted[1:], all=True):
        if key in found:  # a model may be gone
            found[key][name] = rows
    return found


def _bad_files() -> dict[str, int]:
    """Files that no job tries again until they change, and how many of them somebody has acknowledged."""
    return bad_files().aggregate(
        files=Count("track", distinct=True), ignored=Count("track", distinct=True, filter=Q(ignored=True))
    )
