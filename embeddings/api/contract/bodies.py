"""Bodies of the contract's routes about models and texts, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from embeddings.encoders.registry import MODEL_KEYS

Body = serializers.Serializer[dict[str, Any]]


@extend_schema_serializer(examples=[OpenApiExample("A mood", {"text": "calm piano, rain", "model": "muq"})])
class TextSerializer(Body):
    """A text to be embedded."""

    text = serializers.CharField(help_text="In any language; what goes beyond 500 characters is left out.")
    model = serializers.ChoiceField(choices=MODEL_KEYS, required=False, allow_null=True)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Shortened here", {"embedding": [0.0213, -0.0071, 0.0], "model": "muq", "dimension": 1536, "is_stub": False}
        )
    ]
)
class TextVectorSerializer(Body):
    """A text as a vector of unit length in a model's space."""

    embedding = serializers.ListField(child=serializers.FloatField())
    model = serializers.ChoiceField(choices=MODEL_KEYS)
    dimension = serializers.IntegerField()
    is_stub = serializers.BooleanField(help_text="Always false.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A model",
            {
                "name": "muq",
                "dimension": 1536,
                "status": "available",
                "description": "Sound, mood and genre; reads text queries",
                "text": "native",
                "problem": None,
                "embedded": True,
                "loaded": False,
                "device": "cuda",
            },
        )
    ],
    many=True,
)
class ModelOverviewSerializer(Body):
    """A model, and whether it can be searched by text."""

    name = serializers.CharField()
    dimension = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["available", "stub", "unavailable"])
    description = serializers.CharField()
    text = serializers.ChoiceField(choices=["native", "bridged"], allow_null=True)
    problem = serializers.CharField(allow_null=True, help_text="What to do when it is unavailable.")
    embedded = serializers.BooleanField(allow_null=True, help_text="Null while the database is away.")
    loaded = serializers.BooleanField(allow_null=True, help_text="Null while the embedder is away; so is the device.")
    device = serializers.CharField(allow_null=True)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Well",
            {
                "status": "healthy",
                "device": "cuda",
                "checkpoint_dir": "/var/lib/navembed/checkpoints",
                "use_stubs": False,
                "embedder": "running",
                "text_loaded": True,
            },
        )
    ]
)
class TextHealthSerializer(Body):
    """That the web server answers, and what is known of the device."""

    status = serializers.CharField()
    device = serializers.CharField()
    checkpoint_dir = serializers.CharField()
    use_stubs = serializers.BooleanField()
    embedder = serializers.CharField(help_text="running, or why it does not answer.")
    text_loaded = serializers.BooleanField(help_text="Whether a text is answered at once.")


class FoundSerializer(Body):
    """A track that fits, and why."""

    score = serializers.FloatField(help_text="0 to 1: the share of chance pairs of tracks that are less alike.")
    reason = serializers.CharField(allow_null=True)
    models = serializers.ListField(child=serializers.ChoiceField(choices=MODEL_KEYS), help_text="That found it.")
    negative_similarity = serializers.FloatField(
        allow_null=True, help_text="0 to 1, to what is not wanted; null when nothing is unwanted."
    )


class PlaylistTrackSerializer(FoundSerializer):
    track_id = serializers.CharField()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One track",
            {
                "tracks": [
                    {
                        "track_id": "3d4e5f",
                        "score": 0.998,
                        "reason": "sounds like Erik Satie - Gymnopédie No. 1 (MuQ, MERT agree)",
                        "models": ["muq", "mert"],
                        "negative_similarity": None,
                    }
                ],
                "warnings": [],
            },
        )
    ]
)
class PlaylistAnswerSerializer(Body):
    """Tracks, best first, and what is missing from the answer."""

    tracks = PlaylistTrackSerializer(many=True)
    warnings = serializers.ListField(child=serializers.CharField())
