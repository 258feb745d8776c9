"""Playlists of ours in a music server: what has become of them, making one now, and never again."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from embeddings.models import Playlist
from embeddings.playlists import service
from embeddings.playlists.recipe import Role
from navembed_site.console.pages import change, page

PLAYLISTS_SHOWN = 50
HELD = Count("tracks", filter=Q(tracks__role=Role.HELD))


@page("console/playlists.html")
def playlists(request: HttpRequest) -> dict[str, Any]:
    rows = Playlist.objects.annotate(held=HELD).order_by("user", "name")
    return {"title": "Playlists", "page": Paginator(rows, PLAYLISTS_SHOWN).get_page(request.GET.get("page"))}


@change()
def make(request: HttpRequest, pk: int) -> str:
    """Makes one anew at once."""
    playlist = get_object_or_404(Playlist, pk=pk)
    warnings = service.make(playlist)
    return " ".join([service.told(playlist), *warnings])


@change()
def forget(request: HttpRequest, pk: int) -> str:
    """Never makes one again."""
    playlist = get_object_or_404(Playlist, pk=pk)
    service.forget(playlist.name, playlist.user)
    return f"{playlist} is never made again; {playlist.user} keeps what the music server has of it"
