"""Tracks: finding one, what is known of it, what sounds like it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404

from batches.models import TrackResult
from batches.requests import JobRequest
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import IndexRefused, IndexUnavailable
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search.neighbours import NotEmbeddedError, nearest_to_track
from navembed_site.console.jobs import start_for
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError

TRACKS_SHOWN = 50
NEIGHBOURS = 10
RESULTS_SHOWN = 10


@dataclass(frozen=True)
class Near:
    """A track that sounds like another. ``percent``: 100 times the cosine."""

    track: Track
    percent: float


@dataclass(frozen=True)
class Heard:
    """What one model makes of a track: its neighbours, or why there are none."""

    label: str
    description: str
    near: list[Near]
    problem: str


@page("console/tracks.html")
def tracks(request: HttpRequest) -> dict[str, Any]:
    text = request.GET.get("q", "").strip()
    shown = Paginator(search(text).order_by("id"), TRACKS_SHOWN).get_page(request.GET.get("page"))
    return {"title": "Tracks", "q": text, "page": shown, "vectors": _vectors(list(shown)), "models": len(ENCODERS)}


def search(text: str) -> QuerySet[Track]:
    """Return the tracks that can be played whose title, artist, album or path holds every word."""
    found = Track.objects.filter(playable=True)
    for word in text.split()[:8]:
        found = found.filter(
            Q(title__icontains=word) | Q(artist__icontains=word) | Q(album__icontains=word) | Q(path__icontains=word)
        )
    return found


def _vectors(tracks: list[Track]) -> dict[str, int]:
    """Return how many models know each of these tracks; of the shown ones alone, a library may have a million."""
    live = Embedding.objects.filter(track__in=tracks, space__status=EmbeddingSpace.Status.LIVE).order_by()
    return dict(live.values_list("track_id").annotate(Count("pk")))


class TrackPage:
    """One track, in parts that are asked for when a template shows them."""

    def __init__(self, track: Track) -> None:
        self.track = track

    @cached_property
    def vectors(self) -> list[Embedding]:
        rows = self.track.embeddings.defer("vector").select_related("space").order_by("space__model", "space__status")
        return list(rows)

    @cached_property
    def results(self) -> list[TrackResult]:
        rows = self.track.results.select_related("job").exclude(finished_at=None).order_by("-job_id", "model")
        return list(rows[:RESULTS_SHOWN])

    @cached_property
    def bad(self) -> list[Any]:
        return list(self.track.bad_files.order_by("model"))

    @cached_property
    def heard(self) -> list[Heard]:
        """The nearest neighbours, model by model."""
        found = [(encoder, *_nearest(encoder.key, self.track.pk)) for encoder in ENCODERS]
        ids = {neighbour.track_id for _, neighbours, _ in found for neighbour in neighbours}
        known = Track.objects.in_bulk(ids)
        return [
            Heard(
                encoder.label,
                encoder.description,
                [Near(known[n.track_id], 100 * n.score) for n in near if n.track_id in known],
                problem,
            )
            for encoder, near, problem in found
        ]


def _nearest(model: str, track_id: str) -> tuple[list[Any], str]:
    try:
        return nearest_to_track(model, track_id, NEIGHBOURS), ""
    except NotEmbeddedError:
        return [], "This model has not heard the track yet."
    except (IndexUnavailable, IndexRefused) as error:
        return [], f"The search index does not answer: {error}"


@page("console/track.html", parts=("neighbours",))
def track(request: HttpRequest, track_id: str) -> dict[str, Any]:
    found = get_object_or_404(Track, pk=track_id)
    return {"title": "Track", "this": TrackPage(found)}


@change()
def reembed(request: HttpRequest, track_id: str) -> HttpResponseBase:
    """Start a job that embeds this one track anew, with all models."""
    found = get_object_or_404(Track, pk=track_id)
    if not found.playable:
        raise NavembedError("this track is not in the library any more")
    wanted = JobRequest(only_track=found.pk, clear_existing=True, retry_bad_files=True)
    return start_for(request, wanted)
