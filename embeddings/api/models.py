"""Models: what they are, and where they are loaded."""

from __future__ import annotations

from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from embeddings.embedder.states import EmbedderState, embedder_states, unload_everywhere
from embeddings.encoders.base import Encoder
from embeddings.encoders.registry import ENCODERS
from embeddings.models import EmbeddingSpace
from navembed_site.rest.pages import OnePage

Body = serializers.Serializer[dict[str, Any]]
UNKNOWN = {"loaded": False, "device": None, "bytes": 0, "idle_seconds": None, "load_seconds": None, "batch": None}
LOADED = {
    "embedder": 0,
    "reachable": True,
    "error": "",
    "loaded": True,
    "device": "cuda",
    "bytes": 1_266_000_000,
    "idle_seconds": 12.5,
    "load_seconds": 8.1,
    "batch": 16,
}
AWAY = {"embedder": 1, "reachable": False, "error": "no embedder listens at embedder-1.sock: Connection refused"}


class ModelPlaceSerializer(Body):
    """A model in one embedder. One that does not answer is not reachable, and ``error`` says why."""

    embedder = serializers.IntegerField(help_text="Number of the device.")
    reachable = serializers.BooleanField()
    error = serializers.CharField(allow_blank=True)
    loaded = serializers.BooleanField()
    device = serializers.CharField(allow_null=True, help_text="As PyTorch names it.")
    bytes = serializers.IntegerField(help_text="Held in memory.")
    idle_seconds = serializers.FloatField(allow_null=True, help_text="Since its last use.")
    load_seconds = serializers.FloatField(allow_null=True, help_text="That loading it took the last time.")
    batch = serializers.IntegerField(allow_null=True, help_text="Items in its next batch.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Loaded in one of two embedders",
            {
                "key": "muq",
                "label": "MuQ-MuLan",
                "dimension": 1536,
                "space": 4,
                "embedders": [LOADED, {**UNKNOWN, **AWAY}],
            },
        )
    ]
)
class ModelSerializer(Body):
    """A model and where it is loaded."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field; they are kept apart
    dimension = serializers.IntegerField(help_text="Numbers in an embedding.")
    space = serializers.IntegerField(allow_null=True, help_text="What search uses; null before the first job.")
    embedders = ModelPlaceSerializer(many=True)


class UnloadedPlaceSerializer(Body):
    embedder = serializers.IntegerField(help_text="Number of the device.")
    unloaded = serializers.BooleanField(help_text="False when it is in use or was not loaded.")
    error = serializers.CharField(allow_blank=True, help_text="Why the embedder could not be asked.")


@extend_schema_serializer(
    examples=[OpenApiExample("Unloaded", {"embedders": [{"embedder": 0, "unloaded": True, "error": ""}]})]
)
class UnloadedSerializer(Body):
    """What unloading did in each embedder."""

    embedders = UnloadedPlaceSerializer(many=True)


class ModelViewSet(GenericViewSet[Any]):
    """The models of this instance."""

    serializer_class = ModelSerializer
    pagination_class = OnePage
    lookup_field = "key"
    lookup_value_regex = "[a-z0-9_]+"

    def list(self, request: Request) -> Response:
        """List the models, and in which embedders they are loaded."""
        spaces, states = _live_spaces(), embedder_states()
        shown = [_model(encoder, spaces, states) for encoder in ENCODERS]
        return self.get_paginated_response(self.get_serializer(shown, many=True).data)

    def retrieve(self, request: Request, key: str) -> Response:
        """Show one model, and in which embedders it is loaded."""
        return Response(self.get_serializer(_model(_encoder(key), _live_spaces(), embedder_states())).data)

    @extend_schema(request=None, responses=UnloadedSerializer)
    @action(detail=True, methods=["post"])
    def unload(self, request: Request, key: str) -> Response:
        """Give a model's memory back in every embedder; it is loaded again when it is needed."""
        answers = unload_everywhere(_encoder(key).key)
        shown = [
            {
                "embedder": device,
                "unloaded": answer is True,
                "error": answer if isinstance(answer, str) else "",
            }
            for device, answer in answers.items()
        ]
        return Response(UnloadedSerializer({"embedders": shown}).data)


def _encoder(key: str) -> type[Encoder]:
    found = next((encoder for encoder in ENCODERS if encoder.key == key), None)
    if found is None:
        raise Http404
    return found


def _live_spaces() -> dict[str, EmbeddingSpace]:
    return {space.model: space for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE)}


def _model(encoder: type[Encoder], spaces: dict[str, EmbeddingSpace], states: list[EmbedderState]) -> dict[str, Any]:
    space = spaces.get(encoder.key)
    return {
        "key": encoder.key,
        "label": encoder.label,
        "dimension": space.dimension if space else encoder.published_dimension,
        "space": space and space.pk,
        "embedders": [
            {"embedder": state.device, "reachable": state.answers, "error": state.error}
            | (state.models.get(encoder.key) or UNKNOWN)
            for state in states
        ],
    }
