"""What players ask: music like a track, an album or an artist, artists like one, a path between two tracks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.contract.playlist import DEFAULT_MODELS
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import Track
from embeddings.search.artists import similar_artists
from embeddings.search.path import path
from embeddings.search.query import Query
from embeddings.search.similar import KINDS, similar
from navembed_site.http.etags import etag_of, not_modified, tagged
from navembed_site.http.openapi import IF_NONE_MATCH, NOT_MODIFIED

Body = serializers.Serializer[dict[str, Any]]
MOST = 500
LONGEST_SECONDS = 10**8
PER_ARTIST = 5

TRACK = {
    "id": "3d4e5f",
    "title": "Gnossienne No. 3",
    "artist": "Erik Satie",
    "album": "Gnossiennes",
    "duration": 178.3,
    "score": 0.998,
}


class ListenerSerializer(Body):
    """What every question of a player may say of its listener, and of the models that answer."""

    limit = serializers.IntegerField(min_value=1, max_value=MOST, default=25)
    models = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_KEYS),
        default=list(DEFAULT_MODELS),
        allow_empty=False,
        max_length=100,
        help_text="May be given several times.",
    )
    library_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=2**63 - 1),
        required=False,
        max_length=1000,
        help_text="May be given several times; without it all libraries count.",
    )
    user = serializers.CharField(
        required=False, max_length=255, help_text="Name or id of somebody in Navidrome, who gets what he may see."
    )

    def options(self) -> dict[str, Any]:
        """Return what a ``Query`` is made of."""
        names = {"user": "user_id", "max_duration": "max_seconds"}
        fields = Query.__dataclass_fields__
        given = {names.get(name, name): value for name, value in self.validated_data.items()}
        return {name: value for name, value in given.items() if name in fields}


class SimilarSerializer(ListenerSerializer):
    """One of `track`, `album` and `artist`."""

    track = serializers.CharField(required=False, max_length=255, help_text="Id.")
    album = serializers.CharField(required=False, max_length=255, help_text="Navidrome's id.")
    artist = serializers.CharField(required=False, max_length=255, help_text="Navidrome's id, or the name.")
    diversity = serializers.FloatField(min_value=0, max_value=1, default=0.0)
    per_artist = serializers.IntegerField(
        min_value=0, max_value=MOST, default=PER_ARTIST, help_text="Most tracks of an artist; 0: as `diversity` says."
    )
    max_duration = serializers.FloatField(
        min_value=0, max_value=LONGEST_SECONDS, default=0.0, help_text="Seconds; 0: tracks may be of any length."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if sum(kind in attrs for kind in KINDS) != 1:
            raise serializers.ValidationError("say what it should be like: track, album or artist, one of them")
        return attrs


class SimilarTrackSerializer(Body):
    """A track that was found."""

    id = serializers.CharField()
    title = serializers.CharField()
    artist = serializers.CharField()
    album = serializers.CharField()
    duration = serializers.FloatField(help_text="Seconds.")
    score = serializers.FloatField(help_text="0 to 1: the share of chance pairs of tracks that are less alike.")


@extend_schema_serializer(examples=[OpenApiExample("One track", {"results": [TRACK], "warnings": []})])
class MixSerializer(Body):
    """Tracks, best first, and what is missing from the answer."""

    results = SimilarTrackSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField())


class SimilarView(APIView):
    """Music like something in the library."""

    @extend_schema(parameters=[SimilarSerializer, IF_NONE_MATCH], responses={200: MixSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request) -> Response:
        """Find music like a track, an album or an artist.

        One that is not known, or not embedded yet, gets an empty answer. Of a recording one file comes, and of an
        artist at most `per_artist` tracks.
        """
        asked = checked(SimilarSerializer, request)
        kind = next(kind for kind in KINDS if kind in asked.validated_data)
        answer = similar(kind, asked.validated_data[kind], Query(**asked.options()))
        found = shown({each.track_id: each.score for each in answer.tracks})
        return conditional(request, {"results": found, "warnings": answer.warnings})


class SimilarArtistsSerializer(ListenerSerializer):
    artist = serializers.CharField(max_length=255, help_text="Navidrome's id, or the name.")


class ArtistSerializer(Body):
    id = serializers.CharField(allow_blank=True, help_text="Navidrome's; empty where the library has none.")
    name = serializers.CharField()
    score = serializers.FloatField(help_text="0 to 1, of the artist's three most similar tracks.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One artist", {"results": [{"id": "6a7b8c", "name": "Claude Debussy", "score": 0.91}], "warnings": []}
        )
    ]
)
class ArtistsSerializer(Body):
    """Artists, best first, and what is missing from the answer."""

    results = ArtistSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField())


class SimilarArtistsView(APIView):
    """Artists like an artist."""

    @extend_schema(
        parameters=[SimilarArtistsSerializer, IF_NONE_MATCH], responses={200: ArtistsSerializer, 304: NOT_MODIFIED}
    )
    def get(self, request: Request) -> Response:
        """Find artists whose music sounds like that of one; none for one that is not known."""
        asked = checked(SimilarArtistsSerializer, request)
        found = similar_artists(asked.validated_data["artist"], Query(**asked.options()))
        results = [{"id": each.id, "name": each.name, "score": round(each.score, 6)} for each in found.artists]
        return conditional(request, {"results": results, "warnings": found.warnings})


class PathSerializer(ListenerSerializer):
    start = serializers.CharField(max_length=255, help_text="Id of a track.")
    end = serializers.CharField(max_length=255, help_text="Id of a track.")
    limit = serializers.IntegerField(
        min_value=2, max_value=MOST, default=10, help_text="Most tracks, with start and end."
    )


class PathView(APIView):
    """From one track to another."""

    @extend_schema(parameters=[PathSerializer, IF_NONE_MATCH], responses={200: MixSerializer, 304: NOT_MODIFIED})
    def get(self, request: Request) -> Response:
        """Find a path from one track to another, with both ends.

        Every step is closer to the end, and close to the straight line between both, in the space of the first of the
        models that has one. A score says how like a track is to the one before. The answer is empty when a track is not
        known, or not embedded yet.
        """
        asked = checked(PathSerializer, request)
        found = path(asked.validated_data["start"], asked.validated_data["end"], Query(**asked.options()))
        return conditional(request, {"results": shown(dict(found.steps)), "warnings": found.warnings})


def checked(kind: type[ListenerSerializer], request: Request) -> Any:
    """Return the checked question. Raises ValidationError."""
    asked = kind(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return asked


def conditional(request: Request, answer: Mapping[str, Any]) -> Response:
    """Return the answer, or a 304 to somebody who has it."""
    tag = etag_of(answer)
    return not_modified(request, tag) or tagged(answer, tag)


def shown(scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the tracks as players need them, in the order given."""
    tracks = Track.objects.in_bulk(scores)
    return [
        {
            "id": track_id,
            "title": track.title,
            "artist": track.artist,
            "album": track.album,
            "duration": track.duration,
            "score": round(score, 6),
        }
        for track_id, score in scores.items()
        if (track := tracks.get(track_id))
    ]
