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
from embeddings.search.query import Query
from embeddings.search.similar import TRACK, similar
from navembed_site.http.filters import query

Body = serializers.Serializer[dict[str, Any]]
NUMBER = 10
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


class SimilarTracksSerializer(Body):
    item_id = serializers.CharField(max_length=255)
    n = serializers.IntegerField(min_value=1, max_value=MOST, default=NUMBER)
    eliminate_duplicates = serializers.BooleanField(
        default=True, help_text="At most five tracks of an artist; one file of a recording comes in any case."
    )


class SimilarTracksView(APIView):
    """Similar tracks in AudioMuse-AI's shape."""

    @extend_schema(parameters=[SimilarTracksSerializer], responses=SongSerializer(many=True))
    def get(self, request: Request) -> Response:
        """Find tracks like one, nearest first; none like one that is not known."""
        asked = query(SimilarTracksSerializer, request)
        per_artist = PER_ARTIST if asked["eliminate_duplicates"] else 0
        answer = similar(TRACK, asked["item_id"], Query(limit=asked["n"], per_artist=per_artist))
        return Response(songs({each.track_id: each.score for each in answer.tracks}))


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
