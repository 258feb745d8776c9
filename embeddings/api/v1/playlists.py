"""Playlists in a music server: made, listed, and handed to the plugin for users whom we cannot sign in as."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.mixins import RetrieveModelMixin
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import Playlist
from embeddings.playlists import service
from embeddings.playlists.m3u import m3u
from embeddings.playlists.recipe import MOST_TRACKS, Recipe, kept, tracks_of
from embeddings.search.text import MAX_CHARACTERS
from navembed_site.http.pagination import NewestFirst, OnePage, page_of

M3U = "audio/x-mpegurl"
FILE = OpenApiExample(
    "Two tracks",
    "#EXTM3U\n#PLAYLIST:Rainy evening\n#EXTINF:181,Erik Satie - Gymnopédie No. 1\n/music/Satie/01.flac\n",
    media_type=M3U,
)
SHOWN = {
    "id": 3,
    "name": "Rainy evening",
    "user": "ann",
    "sounds_like": "sounds like “calm piano, rain”",
    "schedule": "weekly",
    "track_ids": ["0a1b2c", "3d4e5f"],
    "made_at": "2026-11-27T21:30:00Z",
    "due_at": "2026-12-04T21:30:00Z",
    "pending": False,
    "server_id": "7Qw2kX",
    "problem": "",
}
FORGOTTEN = OpenApiExample("As it was", SHOWN, status_codes=["200"])


def _ids(help_text: str) -> serializers.ListField:
    return serializers.ListField(
        child=serializers.CharField(max_length=255), max_length=MOST_TRACKS, required=False, help_text=help_text
    )


def _words(help_text: str) -> serializers.CharField:
    return serializers.CharField(required=False, allow_blank=True, max_length=MAX_CHARACTERS, help_text=help_text)


def _strength(default: float, help_text: str) -> serializers.FloatField:
    return serializers.FloatField(min_value=0, max_value=1, default=default, help_text=help_text)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Of words, each week anew",
            {"name": "Rainy evening", "text": "calm piano, rain", "limit": 50, "schedule": "weekly"},
            request_only=True,
        )
    ]
)
class NewPlaylistSerializer(serializers.Serializer[dict[str, Any]]):
    """What a playlist is called, whose it is, and what it shall sound like: tracks, a text, or both, or a path."""

    name = serializers.CharField(max_length=service.LONGEST_NAME)
    user = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=service.LONGEST_NAME,
        help_text="Name of its user in the music server; by default that of NAVEMBED_SUBSONIC_USER.",
    )
    schedule = serializers.ChoiceField(choices=Playlist.Schedule.choices, default=Playlist.Schedule.ONCE)
    track_ids = _ids("Tracks to sound like.")
    disliked_track_ids = _ids("Tracks to keep away from.")
    path = serializers.ListField(
        child=serializers.CharField(max_length=255),
        min_length=2,
        max_length=2,
        required=False,
        help_text="A track to begin with, and one to end with; instead of all else but `models` and `limit`.",
    )
    cluster = serializers.CharField(
        required=False,
        max_length=255,
        help_text="A track whose group on the map it shall be; instead of all else but `models` and `limit`.",
    )
    text = _words("Words to sound like, in any language.")
    avoid = _words("Words to keep away from.")
    favourites = serializers.BooleanField(
        default=False, help_text="Sound like what its user has starred; of others the plugin in Navidrome tells it."
    )
    fresh = serializers.BooleanField(default=False, help_text="Made again, have none of the tracks it had before.")
    models = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_KEYS),
        min_length=1,
        max_length=len(MODEL_KEYS),
        default=list(Recipe.models),
    )
    limit = serializers.IntegerField(min_value=1, max_value=MOST_TRACKS, default=Recipe.limit)
    diversity = _strength(Recipe.diversity, "How unlike each other the tracks shall be.")
    dislike_strength = _strength(Recipe.dislike_strength, "How far what is disliked pushes down what is like it.")

    def recipe(self) -> Recipe:
        """Return what it is to be made of. Raises PlaylistRefused."""
        names = {"track_ids": "like", "disliked_track_ids": "unlike"}
        of_the_row = ("name", "user", "schedule")
        given = {names.get(name, name): each for name, each in self.validated_data.items() if name not in of_the_row}
        if "cluster" in given:
            given["cluster"] = [given["cluster"]]
        return Recipe(**given)


@extend_schema_serializer(examples=[OpenApiExample("In the server", SHOWN)])
class PlaylistRowSerializer(serializers.ModelSerializer[Playlist]):
    """A playlist of ours, and what became of it."""

    sounds_like = serializers.SerializerMethodField(help_text="What it is made of, in words.")
    track_ids = serializers.SerializerMethodField(help_text="What it holds since it was last made.")

    class Meta:
        model = Playlist
        fields = list(SHOWN)
        read_only_fields = fields

    def get_sounds_like(self, playlist: Playlist) -> str:
        return kept(playlist).in_words()

    def get_track_ids(self, playlist: Playlist) -> list[str]:
        return tracks_of(playlist)


@extend_schema_serializer(examples=[OpenApiExample("In the server", {"playlist": SHOWN, "warnings": []})])
class MadeSerializer(serializers.Serializer[dict[str, Any]]):
    """The playlist, and what is missing from it."""

    playlist = PlaylistRowSerializer()
    warnings = serializers.ListField(child=serializers.CharField())


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "To be made for bob",
            {
                "id": 4,
                "user": "bob",
                "name": "Discovery",
                "comment": "Made by navembed: sounds like Erik Satie - Gymnopédie No. 1. 2026-11-27 21:30",
                "server_id": "",
                "track_ids": ["0a1b2c", "3d4e5f"],
                "made_at": "2026-11-27T21:30:00Z",
            },
        )
    ]
)
class PendingSerializer(serializers.ModelSerializer[Playlist]):
    """A playlist that somebody else has to bring to its user. With a `server_id`, that playlist is to be updated."""

    comment = serializers.SerializerMethodField(help_text="For its comment in the server.")
    track_ids = serializers.SerializerMethodField(help_text="All its tracks, in order.")

    class Meta:
        model = Playlist
        fields = ["id", "user", "name", "comment", "server_id", "track_ids", "made_at"]
        read_only_fields = fields

    def get_comment(self, playlist: Playlist) -> str:
        return service.comment_of(playlist)

    def get_track_ids(self, playlist: Playlist) -> list[str]:
        return tracks_of(playlist)


class DeliveredSerializer(serializers.Serializer[dict[str, Any]]):
    """What became of a pending playlist: its id in the server, or why it is not there."""

    server_id = serializers.CharField(required=False, max_length=255)
    problem = serializers.CharField(required=False, max_length=1000)
    made_at = serializers.DateTimeField(
        required=False, help_text="As it was pending: one that was made anew meanwhile stays so."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("server_id" in attrs) == ("problem" in attrs):
            raise serializers.ValidationError("say either server_id or problem")
        return attrs


@extend_schema_serializer(examples=[OpenApiExample("With favourites", {"user": "bob", "favourites": True})])
class AskedListenerSerializer(serializers.Serializer[dict[str, Any]]):
    """Somebody of whom the plugin should tell."""

    user = serializers.CharField()
    favourites = serializers.BooleanField(help_text="Also what the user has starred.")


@extend_schema_serializer(
    examples=[OpenApiExample("Of Bob", {"user": "bob", "libraries": [1], "starred": ["3d4e5f", "0a1b2c"]})]
)
class ListenerSerializer(serializers.Serializer[dict[str, Any]]):
    """What only a user, or the plugin in his name, can see in Navidrome."""

    user = serializers.CharField(max_length=service.LONGEST_NAME, help_text="As it was asked for.")
    libraries = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=2**63 - 1), max_length=1000, help_text="What he may see."
    )
    starred = _ids("What he has starred, the newest first.")


class M3uRenderer(BaseRenderer):
    """Names the format in the description; the view writes it."""

    media_type = M3U
    format = "m3u"
    charset = None

    def render(self, data: Any, *_: Any) -> bytes:
        return bytes(data)


class PlaylistViewSet(RetrieveModelMixin, GenericViewSet[Playlist]):
    """Playlists of ours. Each is known by its user and its name."""

    queryset = Playlist.objects.all()
    serializer_class = PlaylistRowSerializer
    pagination_class = NewestFirst
    lookup_value_regex = "[0-9]{1,18}"  # what a database can hold

    @property
    def costs_device_time(self) -> bool:
        return self.action == "create"  # texts

    def list(self, request: Request) -> Response:
        """List our playlists, the newest first."""
        return page_of(self, self.get_queryset())

    @extend_schema(request=NewPlaylistSerializer, responses={201: MadeSerializer})
    def create(self, request: Request) -> Response:
        """Make a playlist, or update the one that its user has of this name from us.

        Of the account in the settings it is in the server when this answers; the playlist of anybody else is pending.
        What cannot be made is kept, too, with its `problem`.
        """
        body = NewPlaylistSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        row = {name: body.validated_data[name] for name in ("user", "schedule")}
        playlist = service.save(body.validated_data["name"], body.recipe(), **row)
        made = {"warnings": service.make(playlist), "playlist": playlist}
        return Response(MadeSerializer(made).data, status.HTTP_201_CREATED)

    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a playlist."""
        return super().retrieve(request, pk)

    @extend_schema(responses={200: OpenApiResponse(PlaylistRowSerializer, examples=[FORGOTTEN])})
    def destroy(self, request: Request, pk: str) -> Response:
        """Forget a playlist and show it a last time: it is never made again. What the server has of it stays."""
        playlist = self.get_object()
        shown = self.get_serializer(playlist).data
        playlist.delete()
        return Response(shown)

    @extend_schema(responses=PendingSerializer(many=True))
    @action(detail=False, pagination_class=OnePage)
    def pending(self, request: Request) -> Response:
        """List the playlists that wait for somebody who can bring them to their users: the plugin in Navidrome."""
        rows = PendingSerializer(service.pending(), many=True)
        return self.get_paginated_response(rows.data)

    @extend_schema(responses=AskedListenerSerializer(many=True))
    @action(detail=False, pagination_class=OnePage)
    def listeners(self, request: Request) -> Response:
        """List the users of whom the plugin in Navidrome should tell: of each once an hour."""
        asked = service.listeners().items()
        return self.get_paginated_response([{"user": user, "favourites": favourites} for user, favourites in asked])

    @extend_schema(request=ListenerSerializer, responses=ListenerSerializer)
    @listeners.mapping.post
    def tell(self, request: Request) -> Response:
        """Tell which libraries a user may see, and what he has starred: his playlists are made by it."""
        body = ListenerSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        told = body.validated_data
        service.tell_of(told["user"], told["libraries"], told.get("starred", ()))
        return Response(body.data)

    @extend_schema(request=DeliveredSerializer)
    @action(detail=True, methods=["post"])
    def delivered(self, request: Request, pk: str) -> Response:
        """Say what became of a pending playlist. One with a problem stays pending."""
        body = DeliveredSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        playlist = self.get_object()
        if problem := body.validated_data.get("problem"):
            service.failed(playlist, problem)
        else:
            service.delivered(playlist, body.validated_data["server_id"], body.validated_data.get("made_at"))
        return Response(self.get_serializer(playlist).data)

    @extend_schema(responses={(200, M3U): OpenApiResponse(OpenApiTypes.STR, examples=[FILE])})
    @action(detail=True, renderer_classes=[M3uRenderer])
    def m3u(self, request: Request, pk: str) -> HttpResponse:
        """Download a playlist as an extended M3U, with the tracks' paths on navembed's host."""
        playlist = self.get_object()
        return HttpResponse(m3u(playlist.name, tracks_of(playlist)), content_type=M3U)
