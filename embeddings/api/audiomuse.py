"""Addresses and shapes that AudioMuse-AI's plugins for Navidrome, Jellyfin and LMS ask for.

They work with navembed when its address and a token are set in them. What they send beyond our fields is ignored.
"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.v1.similar import MOST, PER_ARTIST, shown
from embeddings.search.artists import SimilarArtist, similar_artists
from embeddings.search.path import path
from embeddings.search.query import Query
from embeddings.search.similar import TRACK, similar
from navembed_site.http.filters import query

Body = serializers.Serializer[dict[str, Any]]
NUMBER = 10
SONGS = 10  # of an artist
SONG = {
    "item_id": "3d4e5f",
    "title": "Gnossienne No. 3",
    "author": "Erik Satie",
    "album": "Gnossiennes",
    "distance": 0.002,
}


@extend_schema_serializer(examples=[OpenApiExample("A song", SONG)], many=True)
class SongSerializer(Body):
    """A track in AudioMuse-AI's words."""

    item_id = serializers.CharField()
    title = serializers.CharField()
    author = serializers.CharField(help_text="The artist.")
    album = serializers.CharField()
    distance = serializers.FloatField(help_text="0 to 1; 0 is the same.")


class CountField(serializers.IntegerField):
    """How many are wanted; what is too few or too many is brought to what there can be."""

    def __init__(self, **options: Any) -> None:
        super().__init__(default=NUMBER, **options)

    def to_internal_value(self, data: Any) -> int:
        return min(max(super().to_internal_value(data), 1), MOST)


class SimilarTracksSerializer(Body):
    item_id = serializers.CharField(max_length=255)
    n = CountField()
    eliminate_duplicates = serializers.BooleanField(
        allow_null=True,  # else one that is not sent would be false
        required=False,
        help_text="At most five tracks of an artist, unless false; one file of a recording comes in any case.",
    )


class SimilarTracksView(APIView):
    """Similar tracks in AudioMuse-AI's shape."""

    @extend_schema(parameters=[SimilarTracksSerializer], responses=SongSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Find tracks like one, nearest first; none like one that is not known."""
        asked = query(SimilarTracksSerializer, request)
        per_artist = 0 if asked["eliminate_duplicates"] is False else PER_ARTIST
        answer = similar(TRACK, asked["item_id"], Query(limit=asked["n"], per_artist=per_artist))
        return Response(songs({each.track_id: each.score for each in answer.tracks}))


class PathQuerySerializer(Body):
    start_song_id = serializers.CharField(max_length=255)
    end_song_id = serializers.CharField(max_length=255)
    max_steps = CountField(help_text="Most tracks, with start and end.")


@extend_schema_serializer(examples=[OpenApiExample("Of one song", {"path": [SONG]})])
class SongPathSerializer(Body):
    path = SongSerializer(many=True)


class FindPathView(APIView):
    """A path in AudioMuse-AI's shape."""

    @extend_schema(parameters=[PathQuerySerializer], responses=SongPathSerializer)
    def get(self, request: Request) -> Response:
        """Find a path from one track to another; none when a track is not known. Distances are to the track before."""
        asked = query(PathQuerySerializer, request)
        found = path(asked["start_song_id"], asked["end_song_id"], Query(limit=max(asked["max_steps"], 2)))
        return Response({"path": songs(dict(found.steps))})


class ArtistsQuerySerializer(Body):
    artist = serializers.CharField(max_length=255, help_text="Navidrome's id, or the name.")
    n = CountField()
    include_component_matches = serializers.BooleanField(default=False, help_text="Add songs of both artists.")


class NamedSongSerializer(Body):
    item_id = serializers.CharField()
    title = serializers.CharField()


class ComponentMatchSerializer(Body):
    artist1_representative_songs = NamedSongSerializer(many=True, help_text="Of the artist that was asked for.")
    artist2_representative_songs = NamedSongSerializer(many=True)


@extend_schema_serializer(
    examples=[OpenApiExample("An artist", {"artist": "Claude Debussy", "artist_id": "6a7b8c", "divergence": 0.09})],
    many=True,
)
class ArtistMatchSerializer(Body):
    """An artist in AudioMuse-AI's words."""

    artist = serializers.CharField()
    artist_id = serializers.CharField(allow_blank=True)
    divergence = serializers.FloatField(help_text="0 to 1; 0 is the same.")
    component_matches = ComponentMatchSerializer(many=True, required=False)


class SimilarArtistsView(APIView):
    """Similar artists in AudioMuse-AI's shape."""

    @extend_schema(parameters=[ArtistsQuerySerializer], responses=ArtistMatchSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Find artists like one; none like one that is not known."""
        asked = query(ArtistsQuerySerializer, request)
        found = similar_artists(asked["artist"], Query(limit=asked["n"]))
        return Response([_artist(each, found.own, asked["include_component_matches"]) for each in found.artists])


def _artist(found: SimilarArtist, own: list[str], with_songs: bool) -> dict[str, Any]:
    told = {"artist": found.name, "artist_id": found.id, "divergence": round(1 - found.score, 6)}
    if with_songs:
        named = {"artist1_representative_songs": own[:SONGS], "artist2_representative_songs": found.track_ids[:SONGS]}
        told["component_matches"] = [{name: _named(ids) for name, ids in named.items()}]
    return told


def _named(track_ids: list[str]) -> list[dict[str, str]]:
    return [{"item_id": each["id"], "title": each["title"]} for each in shown(dict.fromkeys(track_ids, 0.0))]


def songs(scores: dict[str, float]) -> list[dict[str, Any]]:
    """Return tracks as songs, in the order given."""
    return [
        {
            "item_id": track["id"],
            "title": track["title"],
            "author": track["artist"],
            "album": track["album"],
            "distance": round(1 - track["score"], 6),
        }
        for track in shown(scores)
    ]
