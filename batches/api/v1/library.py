"""How much of the library is embedded."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from batches.models import BatchJob
from batches.selectors.library import library_counts
from embeddings.index.ownership import notice
from embeddings.library.away import away
from navembed_site.http.etags import etag_of, not_modified, tagged
from navembed_site.http.openapi import IF_NONE_MATCH, NOT_MODIFIED
from navembed_site.http.remembered import Remembered

Body = serializers.Serializer[dict[str, Any]]


MODEL_COUNTS = {"embedded": 4999, "missing": 0, "failed": 1, "ignored": 0, "orphaned": 3, "indexed": 5002}


class ModelCountsSerializer(Body):
    """embedded + failed + missing = playable."""

    embedded = serializers.IntegerField()
    missing = serializers.IntegerField(help_text="Neither a vector nor an error.")
    failed = serializers.IntegerField(help_text="Tracks without a vector that have failed.")
    ignored = serializers.IntegerField(help_text="Tracks that have failed, too, and that somebody has acknowledged.")
    orphaned = serializers.IntegerField(help_text="Vectors of tracks that the library does not show.")
    indexed = serializers.IntegerField(help_text="Vectors that Milvus has acknowledged.")


class BadFilesSerializer(Body):
    files = serializers.IntegerField(help_text="That could not be embedded; no job tries them until they change.")
    ignored = serializers.IntegerField(help_text="Of these, how many have been acknowledged.")


class AwaySerializer(Body):
    """Tracks that are merely not there; their vectors are kept."""

    folder = serializers.CharField(help_text="The deepest that holds all of them.")
    tracks = serializers.IntegerField()
    since = serializers.DateTimeField()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "After a job",
            {
                "counted_at": "2026-11-25T21:00:00Z",
                "tracks": 5003,
                "playable": 5000,
                "bad_files": {"files": 1, "ignored": 0},
                "away": [{"folder": "/music/nas", "tracks": 3, "since": "2026-11-25T20:00:00Z"}],
                "notice": "",
                "models": {
                    "muq": {"embedded": 4999, "missing": 0, "failed": 1, "ignored": 0, "orphaned": 3, "indexed": 5002}
                },
                "last_job": 12,
            },
        )
    ]
)
class LibrarySerializer(Body):
    """Counts of tracks. In a large library they may be some minutes old."""

    counted_at = serializers.DateTimeField()
    tracks = serializers.IntegerField(help_text="That were ever seen, and are not forgotten yet.")
    playable = serializers.IntegerField(help_text="That the library showed at the last scan.")
    bad_files = BadFilesSerializer()
    away = AwaySerializer(many=True)
    notice = serializers.CharField(help_text="What belongs to another instance in Milvus, and what to do; else empty.")
    models = serializers.DictField(child=ModelCountsSerializer(), help_text="By model.")
    last_job = serializers.IntegerField(allow_null=True)


def _count() -> dict[str, Any]:
    return library_counts() | {"counted_at": timezone.now()}


def _rest() -> dict[str, Any]:
    job = BatchJob.objects.values_list("pk", flat=True).first()
    return {"away": away(), "notice": notice(), "last_job": job}


counts, rest = Remembered(_count), Remembered(_rest)


class LibraryView(APIView):
    """How much of the library is embedded, by model."""

    @extend_schema(parameters=[IF_NONE_MATCH], responses={200: LibrarySerializer, 304: NOT_MODIFIED})
    def get(self, request: Request) -> Response:
        """Show how much of the library is embedded, by model."""
        found = counts.get() | rest.get()
        tag = etag_of({name: value for name, value in found.items() if name != "counted_at"})
        return not_modified(request, tag) or tagged(LibrarySerializer(found).data, tag)
