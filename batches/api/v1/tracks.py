"""Tracks: what is known of one, and embedding it anew."""

from __future__ import annotations

from typing import Any

from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Left
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches.api.v1.jobs import start
from batches.api.v1.serializers import JobSerializer, ModelsSerializer
from batches.models import TrackResult
from batches.requests import JobRequest
from embeddings.models import Embedding, EmbeddingSpace, Track
from navembed_site.http.filters import query
from navembed_site.http.openapi import IDEMPOTENCY
from navembed_site.http.pagination import Pages, page_of
from navembed_site.http.problems import Conflict

TRACK = {
    "id": "0a1b2c",
    "library_id": 1,
    "path": "/music/Satie/01.mp3",
    "title": "Gymnopédie No. 1",
    "artist": "Erik Satie",
    "album": "Gymnopédies",
    "duration": 185.2,
    "size": 4_445_000,
    "mtime": "2026-11-02T10:11:12.123456789Z",
    "playable": True,
}
EMBEDDING = {
    "model": "muq",
    "space": 4,
    "status": "live",
    "fingerprint": "9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d9f2c4b7d",
    "windows": 6,
    "audio_seconds": 185.1,
    "audio_hash": "c0ffee4bc0ffee4bc0ffee4bc0ffee4bc0ffee4bc0ffee4bc0ffee4bc0ffee4b",
    "index_state": "indexed",
    "up_to_date": True,
    "updated_at": "2026-11-25T20:00:30Z",
}
ERROR = {
    "model": "mert",
    "job": 12,
    "error_class": "DecoderDied",
    "error_message": "the decoder crashed",
    "attempts": 3,
    "finished_at": "2026-11-25T20:02:00Z",
}
LIBRARY_FIELDS = ["id", "library_id", "path", "title", "artist", "album", "duration", "size", "mtime", "playable"]


@extend_schema_serializer(examples=[OpenApiExample("A track", {**TRACK, "models": ["muq", "latent"]})])
class TrackSerializer(serializers.ModelSerializer[Track]):
    """A track as the library showed it last. ``models``: those with a vector that search uses."""

    models = serializers.SerializerMethodField()

    class Meta:
        model = Track
        fields = [*LIBRARY_FIELDS, "models"]
        read_only_fields = fields

    def get_models(self, track: Track) -> list[str]:
        return sorted(embedding.space.model for embedding in track.embeddings.all())


class TrackEmbeddingSerializer(serializers.ModelSerializer[Embedding]):
    """A vector of a track; the numbers themselves are not shown."""

    model = serializers.CharField(source="space.model")
    status = serializers.CharField(source="space.status", help_text="Of its space; search uses what is live.")
    fingerprint = serializers.CharField(source="space.fingerprint", help_text="Of weights and recipe.")
    audio_hash = serializers.CharField(help_text="SHA-256 over the audio without its tags.")
    up_to_date = serializers.SerializerMethodField(help_text="The file has not changed since.")

    class Meta:
        model = Embedding
        fields = [
            "model", "space", "status", "fingerprint", "windows", "audio_seconds", "audio_hash", "index_state",
            "up_to_date", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_up_to_date(self, embedding: Embedding) -> bool:
        track = self.context["track"]
        return (embedding.size, embedding.mtime) == (track.size, track.mtime)


class TrackErrorSerializer(serializers.ModelSerializer[TrackResult]):
    """The last time that a model had to give a track up."""

    class Meta:
        model = TrackResult
        fields = ["model", "job", "error_class", "error_message", "attempts", "finished_at"]
        read_only_fields = fields


@extend_schema_serializer(examples=[OpenApiExample("A track", {**TRACK, "embeddings": [EMBEDDING], "errors": [ERROR]})])
class TrackDetailSerializer(serializers.ModelSerializer[Track]):
    """All that is known of a track."""

    embeddings = serializers.SerializerMethodField()
    errors = serializers.SerializerMethodField(  # type: ignore[assignment]  # a field; they are kept apart
        help_text="The last failure of each model."
    )

    class Meta:
        model = Track
        fields = [*LIBRARY_FIELDS, "embeddings", "errors"]
        read_only_fields = fields

    @extend_schema_field(TrackEmbeddingSerializer(many=True))
    def get_embeddings(self, track: Track) -> list[dict[str, Any]]:
        rows = track.embeddings.defer("vector").select_related("space").order_by("space__model", "pk")
        return list(TrackEmbeddingSerializer(rows, many=True, context={"track": track}).data)

    @extend_schema_field(TrackErrorSerializer(many=True))
    def get_errors(self, track: Track) -> list[dict[str, Any]]:
        failed = track.results.filter(status=TrackResult.Status.FAILED).defer("traceback").order_by("pk")
        last = {row.model: row for row in failed}
        return list(TrackErrorSerializer([last[model] for model in sorted(last)], many=True).data)


class TrackFilter(serializers.Serializer[dict[str, Any]]):
    """Query of the list of tracks."""

    q = serializers.CharField(required=False, max_length=200, help_text="Part of the title, artist or album.")
    path_prefix = serializers.CharField(
        required=False, max_length=4096, trim_whitespace=False, help_text="Beginning of the file's absolute path."
    )
    library_id = serializers.IntegerField(required=False, min_value=0, max_value=2**31 - 1)
    playable = serializers.BooleanField(required=False, allow_null=True, default=None)


class TrackViewSet(GenericViewSet[Track]):
    """The library's tracks, and what is known of them."""

    queryset = Track.objects.all()
    serializer_class = TrackSerializer
    pagination_class = Pages
    lookup_value_regex = r"[^/\x00]+"  # PostgreSQL refuses NUL

    @extend_schema(parameters=[TrackFilter])
    def list(self, request: Request) -> Response:
        """List tracks in the order of their ids."""
        live = Embedding.objects.filter(space__status=EmbeddingSpace.Status.LIVE)
        vectors = Prefetch("embeddings", live.defer("vector").select_related("space"))
        return page_of(self, _found(query(TrackFilter, request)).prefetch_related(vectors))

    @extend_schema(responses=TrackDetailSerializer)
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show what is known of a track: its vectors, its audio's fingerprint, its last errors."""
        return Response(TrackDetailSerializer(self.get_object()).data)

    @extend_schema(
        request=ModelsSerializer, parameters=[IDEMPOTENCY], responses={200: JobSerializer, 201: JobSerializer}
    )
    @action(detail=True, methods=["post"])
    def reembed(self, request: Request, pk: str) -> Response:
        """Start a job that embeds this one track anew, with all models or those that are named."""
        track = self.get_object()
        if not track.playable:
            raise Conflict(f"track {track.pk} is not in the library any more")
        body = ModelsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        wanted = JobRequest(**body.validated_data, only_track=track.pk, clear_existing=True, retry_bad_files=True)
        return start(request, wanted)


def _found(wanted: dict[str, Any]) -> QuerySet[Track]:
    tracks = Track.objects.all()
    if text := wanted.get("q"):
        tracks = tracks.filter(Q(title__icontains=text) | Q(artist__icontains=text) | Q(album__icontains=text))
    if prefix := wanted.get("path_prefix"):
        start = Left("path", len(prefix))  # SQLite's LIKE takes "a" for "A", PostgreSQL's does not
        tracks = tracks.alias(start=start).filter(start=prefix)
    exact = {name: wanted[name] for name in ("library_id", "playable") if wanted.get(name) is not None}
    return tracks.filter(**exact)
