"""Tracks, spaces and embeddings in the console; looked at, not edited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from embeddings.errors import NoSuchSpace
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import drop, roll_back
from embeddings.spaces.promotion import approve, point_aliases
from navembed_site.console.read_only import ReadOnlyAdmin
from navembed_site.errors import NavembedError


@admin.register(Track)
class TrackAdmin(ReadOnlyAdmin[Track]):
    list_display = ["__str__", "album", "duration", "library_id", "playable"]
    list_filter = ["playable", "library_id"]
    search_fields = ["title", "artist", "album", "path"]
    show_full_result_count = False


@admin.register(EmbeddingSpace)
class EmbeddingSpaceAdmin(ReadOnlyAdmin[EmbeddingSpace]):
    list_display = ["model", "status", "dimension", "collection", "created_at", "kept_until"]
    list_filter = ["status", "model"]
    search_fields = ["model", "fingerprint"]
    actions = ["make_live", "go_back", "drop"]

    def has_switch_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("embeddings.change_embeddingspace")

    @admin.action(description="Let search use this build, though tracks lose their vector", permissions=["switch"])
    def make_live(self, request: HttpRequest, spaces: QuerySet[EmbeddingSpace]) -> None:
        def switch(space: EmbeddingSpace) -> str:
            _require(space, EmbeddingSpace.Status.BUILDING)
            approve(space.model)
            return "search uses it now"

        self._each(request, spaces, switch)

    @admin.action(description="Go back to these kept vectors", permissions=["switch"])
    def go_back(self, request: HttpRequest, spaces: QuerySet[EmbeddingSpace]) -> None:
        def switch(space: EmbeddingSpace) -> str:
            _require(space, EmbeddingSpace.Status.KEPT)
            roll_back(space.model)
            return "search uses it again"

        self._each(request, spaces, switch)

    @admin.action(description="Drop builds or kept vectors", permissions=["switch"])
    def drop(self, request: HttpRequest, spaces: QuerySet[EmbeddingSpace]) -> None:
        def give_up(space: EmbeddingSpace) -> str:
            _require(space, EmbeddingSpace.Status.BUILDING, EmbeddingSpace.Status.KEPT)
            drop(space)
            return "its disk is given back within minutes"

        self._each(request, spaces, give_up)

    def _each(
        self, request: HttpRequest, spaces: QuerySet[EmbeddingSpace], service: Callable[[EmbeddingSpace], str]
    ) -> None:
        """Call ``service`` for each space, report what happened, and update Milvus."""
        for space in spaces:
            try:
                self.message_user(request, f"{space}: {service(space)}.")
            except NavembedError as error:
                self.message_user(request, f"{space}: {error}.", messages.ERROR)
        if problem := point_aliases():
            self.message_user(request, f"{problem}.", messages.WARNING)


def _require(space: EmbeddingSpace, *statuses: str) -> None:
    if space.status not in statuses:
        raise NoSuchSpace(f"it is neither {' nor '.join(statuses)}" if statuses[1:] else f"it is not {statuses[0]}")


@admin.register(Embedding)
class EmbeddingAdmin(ReadOnlyAdmin[Embedding]):
    list_display = ["track", "space", "windows", "audio_seconds", "index_state", "updated_at"]
    list_filter = ["index_state", "space__model"]
    search_fields = ["track__title", "track__artist", "track__path"]
    list_select_related = ["track", "space"]
    exclude = ["vector"]
    show_full_result_count = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Embedding, Any]:
        return super().get_queryset(request).defer("vector")  # 150 kB a row that no page shows
