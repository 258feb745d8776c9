"""Spaces: which vectors there are of each model, and the way back to former ones."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import Count, QuerySet
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.mixins import RetrieveModelMixin
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import roll_back
from embeddings.spaces.promotion import point_aliases, size_of
from navembed_site.access.scopes import Scope
from navembed_site.http.filters import query
from navembed_site.http.pagination import Pages, page_of
from navembed_site.http.problems import Conflict

SPACE = {
    "id": 4,
    "model": "muq",
    "status": "live",
    "dimension": 1536,
    "fingerprint": "9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d",
    "collection": "navembed_5d0e81c4_muq_4_9f2c4b7d",
    "vectors": 4957,
    "bytes": 60911616,
    "created_at": "2026-11-25T20:00:02Z",
    "kept_until": None,
}


@extend_schema_serializer(examples=[OpenApiExample("What search uses", SPACE)])
class SpaceSerializer(serializers.ModelSerializer[EmbeddingSpace]):
    """Vectors of one model and one fingerprint, which may be compared with each other."""

    vectors = serializers.IntegerField(read_only=True)
    bytes = serializers.SerializerMethodField(help_text="About what they take in database and search index.")

    class Meta:
        model = EmbeddingSpace
        fields = [
            "id", "model", "status", "dimension", "fingerprint", "collection", "vectors", "bytes", "created_at",
            "kept_until",
        ]  # fmt: skip
        read_only_fields = fields

    def get_bytes(self, space: Any) -> int:
        return size_of(space, space.vectors)


@extend_schema_serializer(
    examples=[OpenApiExample("Gone back", {"live": {**SPACE, "id": 3}, "warning": ""})],
)
class RolledBackSerializer(serializers.Serializer[dict[str, Any]]):
    """What search uses now."""

    live = SpaceSerializer()
    warning = serializers.CharField(allow_blank=True, help_text="What is left to do, if anything.")


class SpaceFilter(serializers.Serializer[dict[str, Any]]):
    """Query of the list of spaces."""

    model = serializers.ChoiceField(choices=MODEL_KEYS, required=False)
    status = serializers.ChoiceField(choices=EmbeddingSpace.Status.choices, required=False)


class SpaceViewSet(RetrieveModelMixin, GenericViewSet[EmbeddingSpace]):
    """Which vectors there are of each model, and which of them search uses."""

    scopes: ClassVar = {"rollback": Scope.ADMIN}
    queryset = EmbeddingSpace.objects.annotate(vectors=Count("embeddings"))
    serializer_class = SpaceSerializer
    pagination_class = Pages
    lookup_value_regex = "[0-9]{1,18}"  # what a database can hold

    @extend_schema(parameters=[SpaceFilter])
    def list(self, request: Request) -> Response:
        """List the spaces of all models, the oldest first."""
        rows: QuerySet[EmbeddingSpace] = self.get_queryset().filter(**query(SpaceFilter, request))
        return page_of(self, rows)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show one space."""
        return super().retrieve(request, pk)

    @extend_schema(request=None, responses=RolledBackSerializer)
    @action(detail=True, methods=["post"])
    def rollback(self, request: Request, pk: str) -> Response:
        """Makes these kept vectors live again, and keeps those that are live now."""
        space = self.get_object()
        if space.status != EmbeddingSpace.Status.KEPT:
            raise Conflict(f"space {space.pk} is {space.status}: only kept vectors can be gone back to")
        roll_back(space.model)
        warning = point_aliases()
        return Response(RolledBackSerializer({"live": self.get_object(), "warning": warning}).data)
