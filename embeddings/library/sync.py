"""Brings our table of tracks up to date with the library, a page at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from django.db import transaction
from django.db.models import Max

from embeddings.library import open_library
from embeddings.models import Track

FIELDS = ("library_id", "path", "title", "artist", "album", "duration", "size", "mtime")


def sync_tracks(*, fence: Callable[[], None] = lambda: None) -> int:
    """Read the whole library into ``Track``; returns how many tracks are playable. Raises LibraryUnavailable.

    Tracks that the library no longer shows stay, marked as not playable: their vectors may be wanted again.
    ``fence`` is called in every transaction that writes, and stops it by raising: two scans that overlap would
    mark tracks wrongly.
    """
    scan = (Track.objects.aggregate(last=Max("scan"))["last"] or 0) + 1
    count = 0
    for page in open_library().pages():
        with transaction.atomic():
            fence()
            Track.objects.bulk_create(
                [Track(**asdict(track), playable=True, scan=scan) for track in page],
                update_conflicts=True,
                unique_fields=["id"],
                update_fields=[*FIELDS, "playable", "scan"],
            )
        count += len(page)
    with transaction.atomic():
        fence()
        Track.objects.filter(playable=True, scan__lt=scan).update(playable=False)
    return count
