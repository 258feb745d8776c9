"""Search by tracks, by text and by sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.contract.bodies import FoundSerializer
from embeddings.api.contract.playlist import PlaylistSerializer
from embeddings.api.v1.serializers import TrackNameSerializer
from embeddings.errors import AudioError
from embeddings.models import Track
from embeddings.search.query import Query, Seed
from embeddings.search.recommend import Recommendation, recommend
from embeddings.search.upload import embed_upload
from navembed_site.access.scopes import Scope
from navembed_site.http.parsers import StrictJSONParser
from navembed_site.http.problems import Unprocessable

SECONDS = 25.0  # a text model may have to be loaded first
MOST_TEXTS = 20
MODE = "search"
FORM_FIELDS = {
    "audio", "limit", "models", "merge_strategy", "min_model_agreement", "diversity", "track_ids", "texts",
}  # fmt: skip


@extend_schema_serializer(
    examples=[
        OpenApiExample("By text", {"texts": ["calm piano, rain"], "limit": 10}, media_type="application/json"),
        OpenApiExample(
            "Like two tracks, with two models, but not like a third",
            {
                "track_ids": ["0a1b2c", "3d4e5f"],
                "models": ["muq", "mert"],
                "disliked_track_ids": ["7a8b9c"],
                "diversity": 0.3,
            },
            media_type="application/json",
        ),
    ]
)
class SearchSerializer(PlaylistSerializer):
    """What to search for: tracks, texts, or both; the other fields are those of `/playlist`."""

    track_ids = serializers.ListField(
        child=serializers.CharField(max_length=255),
        required=False,
        max_length=500,
        help_text="Tracks to start from, each with weight 1; `seeds` says more.",
    )
    texts = serializers.ListField(
        child=serializers.CharField(max_length=10_000),
        required=False,
        max_length=MOST_TEXTS,
        help_text="Prompts to start from, in any language.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not any(attrs.get(name) for name in ("track_ids", "texts", "seeds", "audio")):
            raise serializers.ValidationError("say what to search for: track_ids, texts, seeds, or audio")
        return attrs

    def query(self, mode: str) -> Query:
        given = self.validated_data
        tracks = [Seed(track_id) for track_id in given.pop("track_ids", ())]
        query = super().query(mode)
        return replace(query, seeds=[*query.seeds, *tracks])


@extend_schema_serializer(
    examples=[OpenApiExample("A file", {"audio": "…", "limit": 10}, media_type="multipart/form-data")]
)
class AudioSearchSerializer(SearchSerializer):
    """A file to search for, with what a form can say besides. It is heard once and not kept."""

    audio = serializers.FileField(help_text="Music in any format that Navidrome plays.")

    def get_fields(self) -> dict[str, Any]:
        return {name: field for name, field in super().get_fields().items() if name in FORM_FIELDS}


class HitSerializer(FoundSerializer):
    track = TrackNameSerializer()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One hit",
            {
                "results": [
                    {
                        "track": {
                            "id": "3d4e5f",
                            "title": "Gnossienne No. 3",
                            "artist": "Erik Satie",
                            "album": "Gnossiennes",
                            "path": "/music/Satie/05.flac",
                        },
                        "score": 0.998,
                        "reason": "sounds like Erik Satie - Gymnopédie No. 1 (MuQ)",
                        "models": ["muq"],
                        "negative_similarity": None,
                    }
                ],
                "warnings": [],
            },
        )
    ]
)
class SearchAnswerSerializer(serializers.Serializer[dict[str, Any]]):
    """Tracks, best first, and what is missing from the answer."""

    results = HitSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField())


class SearchView(APIView):
    """Music by how it sounds."""

    body_limit = settings.AUDIO_BODY_BYTES
    costs_device_time = True
    scopes: ClassVar = {"post": Scope.READ}
    parser_classes = [StrictJSONParser, MultiPartParser]

    @extend_schema(
        request={"application/json": SearchSerializer, "multipart/form-data": AudioSearchSerializer},
        responses=SearchAnswerSerializer,
    )
    def post(self, request: Request) -> Response:
        """Search for music that sounds like tracks, like a text, or like a file that you upload.

        What does not work, because a model has no vectors yet or something is away, is left out and named in the
        warnings.
        """
        if sum(len(files) for _, files in request.FILES.lists()) > 1:
            raise ParseError("one file can be searched for at a time")
        body = (AudioSearchSerializer if _is_upload(request) else SearchSerializer)(data=request.data)
        body.is_valid(raise_exception=True)
        audio = body.validated_data.pop("audio", None)
        query, warnings = body.query(MODE), []
        if audio:
            try:
                heard = embed_upload(Path(audio.temporary_file_path()), query.models)
            except AudioError as error:
                raise Unprocessable(str(error)) from error
            query, warnings = replace(query, seeds=[*query.seeds, *heard.seeds]), heard.warnings
        answer = recommend(query, seconds=SECONDS)
        shown = {"results": _hits(answer.tracks), "warnings": [*warnings, *answer.warnings]}
        return Response(SearchAnswerSerializer(shown).data)


def _is_upload(request: Request) -> bool:
    return str(request.content_type).startswith("multipart/")


def _hits(found: Sequence[Recommendation]) -> list[dict[str, Any]]:
    tracks = Track.objects.in_bulk([each.track_id for each in found])
    return [
        {
            "track": tracks.get(each.track_id) or Track(id=each.track_id),
            "score": each.score,
            "reason": each.reason,
            "models": each.models,
            "negative_similarity": each.negative_similarity,
        }
        for each in found
    ]
