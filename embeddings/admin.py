"""Tracks, spaces and embeddings in the console; looked at, not edited."""

from __future__ import annotations

from typing import Any, TypeVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from embeddings.models import Embedding, EmbeddingSpace, Track

ModelT = TypeVar("ModelT", bound=Model)


class ReadOnlyAdmin(admin.ModelAdmin[ModelT]):
    """Lists and shows; rows are written by jobs alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ModelT | None = None) -> bool:
        return False


@admin.register(Track)
class TrackAdmin(ReadOnlyAdmin[Track]):
    list_display = ["__str__", "album", "duration", "library_id", "playable"]
    list_filter = ["playable", "library_id"]
    search_fields = ["title", "artist", "album", "path"]
    show_full_result_count = False


@admin.register(EmbeddingSpace)
class EmbeddingSpaceAdmin(ReadOnlyAdmin[EmbeddingSpace]):
    list_display = ["model", "status", "dimension", "fingerprint", "collection", "created_at"]
    list_filter = ["status", "model"]
    search_fields = ["model", "fingerprint"]


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
