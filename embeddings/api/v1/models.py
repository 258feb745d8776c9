"""Models: what they are, and where they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.http import Http404
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from embeddings.embedder.states import EmbedderState, embedder_states, unload_everywhere
from embeddings.encoders.base import Encoder, Model
from embeddings.encoders.registry import ENCODERS, TEXT_MODEL
from embeddings.models import EmbeddingSpace
from embeddings.search.text import TextSupport, text_support
from navembed_site.access.scopes import Scope
from navembed_site.http.pagination import OnePage

MODELS: tuple[type[Model], ...] = (*ENCODERS, TEXT_MODEL)
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
                "description": "sound, mood and genre; can be searched by text",
                "hears": True,
                "dimension": 1536,
                "space": 4,
                "text": "native",
                "text_problem": "",
                "text_recall": None,
                "embedders": [LOADED, {**UNKNOWN, **AWAY}],
            },
        )
    ]
)
class ModelSerializer(Body):
    """A model and where it is loaded."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field; they are kept apart
    description = serializers.CharField()
    hears = serializers.BooleanField(help_text="Whether it embeds tracks; the other kind reads the words of a search.")
    dimension = serializers.IntegerField(allow_null=True, help_text="Numbers in an embedding of a track.")
    space = serializers.IntegerField(allow_null=True, help_text="What search uses; null before the first job.")
    text = serializers.ChoiceField(
        choices=["native", "bridged"], allow_null=True, help_text="How it can be searched by words; null: not now."
    )
    text_problem = serializers.CharField(allow_blank=True, help_text="What to do about that.")
    text_recall = serializers.FloatField(
        allow_null=True, help_text="Bridged: share of tracks that are among the ten nearest to where their sound leads."
    )
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
    scopes: ClassVar = {"unload": Scope.OPERATE}
    lookup_field = "key"
    lookup_value_regex = "[a-z0-9_-]+"

    def list(self, request: Request) -> Response:
        """List the models, and in which embedders they are loaded."""
        return self.get_paginated_response(self.get_serializer(_models(MODELS), many=True).data)

    def retrieve(self, request: Request, key: str) -> Response:
        """Show one model, and in which embedders it is loaded."""
        return Response(self.get_serializer(_models([_known(key)])[0]).data)

    @extend_schema(request=None, responses=UnloadedSerializer)
    @action(detail=True, methods=["post"])
    def unload(self, request: Request, key: str) -> Response:
        """Give a model's memory back in every embedder; it is loaded again when it is needed."""
        answers = unload_everywhere(_known(key).key)
        shown = [
            {"embedder": device, "unloaded": answer is True, "error": answer if isinstance(answer, str) else ""}
            for device, answer in answers.items()
        ]
        return Response(UnloadedSerializer({"embedders": shown}).data)


def _known(key: str) -> type[Model]:
    found = next((model for model in MODELS if model.key == key), None)
    if found is None:
        raise Http404
    return found


def _models(models: Sequence[type[Model]]) -> list[dict[str, Any]]:
    spaces = {space.model: space for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE)}
    states, support = embedder_states(), text_support()
    return [_model(model, spaces.get(model.key), states, support.get(model.key)) for model in models]


def _model(
    model: type[Model], space: EmbeddingSpace | None, states: list[EmbedderState], support: TextSupport | None
) -> dict[str, Any]:
    published = model.published_dimension if issubclass(model, Encoder) else None
    return {
        "key": model.key,
        "label": model.label,
        "description": model.description,
        "hears": issubclass(model, Encoder),
        "dimension": space.dimension if space else published,
        "space": space and space.pk,
        "text": support and support.kind,
        "text_problem": support.problem if support else "",
        "text_recall": support and support.recall,
        "embedders": [
            {"embedder": state.device, "reachable": state.answers, "error": state.error}
            | (state.models.get(model.key) or UNKNOWN)
            for state in states
        ],
    }
