"""Gives back what is kept for a time only, in slices that block nobody."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.db.models import Exists, OuterRef
from django.utils import timezone

from batches.models import BatchJob, TrackResult
from embeddings.models import Embedding, Track

KEEP_SUCCESSES = timedelta(days=30)
SLICE = 10_000
PAGES_A_SLICE = 2_000


def delete_old_results() -> int:
    """Delete successes of jobs that ended more than 30 days ago; failures stay. Returns how many."""
    total = 0
    for job in BatchJob.objects.filter(finished_at__lt=timezone.now() - KEEP_SUCCESSES):
        successes = job.results.filter(status=TrackResult.Status.SUCCEEDED)
        while ids := list(successes.values_list("pk", flat=True)[:SLICE]):
            TrackResult.objects.filter(pk__in=ids).delete()
            total += len(ids)
            give_pages_back()
    return total


def delete_gone_tracks() -> int:
    """Delete tracks that are gone from the library and of which nothing is kept; returns how many."""
    of_track = {"track": OuterRef("pk")}
    kept = Exists(Embedding.objects.filter(**of_track)) | Exists(TrackResult.objects.filter(**of_track))
    unknown = Track.objects.filter(~kept, playable=False)
    total = 0
    while ids := list(unknown.values_list("pk", flat=True)[:SLICE]):
        total += unknown.filter(pk__in=ids).delete()[0]
        give_pages_back()
    return total


def give_pages_back() -> None:
    """Let SQLite return freed pages to the file system, a slice at a time; never a full VACUUM."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA incremental_vacuum({PAGES_A_SLICE})").fetchall()
