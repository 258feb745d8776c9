"""Map: a picture of each model's space. Points come as bytes; titles are asked for when somebody points at one."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404
from django.urls import reverse

from embeddings.encoders.registry import ENCODERS
from embeddings.maps.making import sketch
from embeddings.models import EmbeddingSpace, SpaceMap, Track
from navembed_site.console import words
from navembed_site.console.colours import KINDS, colours, legend, shown
from navembed_site.console.pages import page

WAYS = {"umap": "UMAP: what sounds alike lies together", "pca": "PCA: far apart is unlike"}


class Chart:
    """A live space's map as somebody asks for it."""

    def __init__(self, asked: QueryDict, models: list[tuple[str, str]], space: EmbeddingSpace) -> None:
        self.models, self.space, self._asked = models, space, asked

    @cached_property
    def made(self) -> SpaceMap | None:
        """The map that is kept, without its places."""
        return SpaceMap.objects.filter(space=self.space).defer("keys", "pca", "umap").first()

    @cached_property
    def ways(self) -> list[tuple[str, str]]:
        has_umap = SpaceMap.objects.filter(space=self.space).exclude(umap=b"").exists()
        return [(way, label) for way, label in WAYS.items() if way == "pca" or has_umap]

    @cached_property
    def way(self) -> str:
        asked = self._asked.get("way", "")
        return asked if asked in dict(self.ways) else self.ways[0][0]

    @cached_property
    def kinds(self) -> list[tuple[str, str]]:
        return [
            (kind, label)
            for kind, label in KINDS.items()
            if kind != "cluster" or (self.made and any(self.made.clusters))
        ]

    @cached_property
    def kind(self) -> str:
        asked = self._asked.get("by", "")
        return asked if asked in dict(self.kinds) else self.kinds[0][0]

    @cached_property
    def legend(self) -> list[Any]:
        return legend(self.made or SpaceMap(space=self.space), self.kind)

    @cached_property
    def tracks(self) -> int:
        """How many could be shown."""
        return shown(self.space).count()

    def points(self) -> bytes:
        """Return what is drawn of tracks that can be played: all keys as float64, then x, y and colour as float32."""
        drawn = self.made or _sketch(self.space.pk, self.tracks)
        coloured = colours(drawn, self.kind)
        keys = np.frombuffer(drawn.keys, "<i8")
        places = np.frombuffer(getattr(drawn, self.way), "<f4").reshape(-1, 2)
        known, here, there = np.intersect1d(keys, coloured["key"], assume_unique=True, return_indices=True)
        columns = (places[here, 0], places[here, 1], coloured["colour"][there])
        return known.astype("<f8").tobytes() + b"".join(column.tobytes() for column in columns)


def _chart(request: HttpRequest) -> Chart | None:
    """Return what is asked for, else of the first model that has a live space; None when there is none."""
    live = EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE).defer("recipe", "calibration")
    spaces = {space.model: space for space in live}
    models = [(encoder.key, encoder.label) for encoder in ENCODERS if encoder.key in spaces]
    if not models:
        return None
    return Chart(request.GET, models, spaces.get(request.GET.get("model", "")) or spaces[models[0][0]])


@lru_cache(maxsize=len(ENCODERS))
def _sketch(space_id: int, tracks: int) -> SpaceMap:
    """Return a sketch of so many tracks' space; it is drawn again when there are others."""
    return sketch(EmbeddingSpace.objects.get(pk=space_id))


@page("console/map.html")
def map_page(request: HttpRequest) -> dict[str, Any]:
    return {"title": "Map", "chart": _chart(request)}


@page("console/map.html")
def points(request: HttpRequest) -> HttpResponse:
    """Return a map's points; see ``Chart.points``."""
    chart = _chart(request)
    if chart is None:
        raise Http404("nothing has been embedded yet")
    answer = HttpResponse(chart.points(), content_type="application/octet-stream")
    answer["Cache-Control"] = "private, no-cache"
    return answer


@page("console/map.html")
def point(request: HttpRequest, key: int) -> JsonResponse:
    """Return what is known of the track of one point."""
    track = get_object_or_404(Track, embeddings=key)
    return JsonResponse(
        {
            "title": track.title or track.path,
            "about": " · ".join(filter(None, [track.artist, track.album, words.length(track.duration)])),
            "address": reverse("console:track", args=[track.pk]),
        }
    )
