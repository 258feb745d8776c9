"""What is away, for people: how many tracks, below which folder, since when."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from django.conf import settings
from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q
from django.utils import timezone

from embeddings.models import Embedding, Instance, Track, instance

MOST_SHOWN = 3
LONGEST_GAP = timedelta(days=8)  # between two looks: a job each week is enough


class Away(NamedTuple):
    """Tracks that were found missing at one time: all that have vectors, others only for a while."""

    folder: str
    """The deepest that holds all of them."""
    tracks: int
    since: datetime
    embedded: bool
    """Whether any of them has a vector, which is kept."""


def look(now: datetime) -> None:
    """Notes that the library has been read. What is away is away since later by a time in which nobody has looked.

    Else a clock that is too early at boot, or wrong for a while, would make it away for years at once.
    """
    gap = now - looked_at(now)
    if not timedelta() <= gap <= min(LONGEST_GAP, timedelta(days=settings.KEEP_MISSING_DAYS) / 2):
        Track.objects.filter(away_since__isnull=False).update(away_since=F("away_since") + gap)
    Instance.objects.filter(pk=instance().pk).update(looked_at=now)


def looked_at(otherwise: datetime | None = None) -> datetime:
    """Return when the library was last read, by the clock of that time."""
    return instance().looked_at or otherwise or timezone.now()


def away() -> list[Away]:
    """Return what is away, the largest first."""
    embedded = Exists(Embedding.objects.filter(track=OuterRef("pk")))
    recent = Q(away_since__gt=timezone.now() - timedelta(days=settings.KEEP_MISSING_DAYS))
    tracks = Track.objects.filter(embedded | recent, playable=False, away_since__isnull=False)
    groups = tracks.values("library_id", "away_since").annotate(
        tracks=Count("pk"), embedded=Count("pk", filter=embedded), first=Min("path"), last=Max("path")
    )
    # What all paths have in common, the first and the last of them have.
    found = [
        Away(_common(each["first"], each["last"]), each["tracks"], since, each["embedded"] > 0)
        for each in groups
        if (since := each["away_since"])
    ]
    return sorted(found, key=lambda each: (-each.tracks, each.folder))


def away_text() -> str:
    """Return it in sentences; empty when nothing is away."""
    groups = away()
    sentences = [_sentence(each) for each in groups[:MOST_SHOWN]]
    if more := sum(each.tracks for each in groups[MOST_SHOWN:]):
        sentences.append(f"{more:,} more tracks are away.")
    return " ".join(sentences)


def _sentence(each: Away) -> str:
    until = each.since + timedelta(days=settings.KEEP_MISSING_DAYS)
    verb = "track is" if each.tracks == 1 else "tracks are"
    kept = f"; what was computed is kept until {timezone.localtime(until):%Y-%m-%d}" if each.embedded else ""
    return (
        f"{each.tracks:,} {verb} away since {timezone.localtime(each.since):%Y-%m-%d %H:%M}, below {each.folder}{kept}."
    )


def _common(first: str, last: str) -> str:
    return str(Path(first).parent) if first == last else os.path.commonpath([first, last])
