"""``POST /playlist/{mode}``: what the Go server asks for music with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import numpy as np
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_serializer
from numpy.typing import NDArray
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.contract.bodies import PlaylistAnswerSerializer
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.search.query import MERGES, PRIORITIES, UNION, Query, Recommendation, Seed
from embeddings.search.recommend import recommend
from navembed_site.access.scopes import Scope
from navembed_site.http.problems import Unprocessable, sentence

MOST_IN_A_LIST = 10_000
MOST_NUMBERS = 2**20
LONGEST_TEXT = 4096
SURROGATE = re.compile("[\ud800-\udfff]")
LARGEST_WEIGHT = 1e6
DEFAULT_MODELS = (MODEL_KEYS[0],)


@extend_schema_field({"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": MOST_NUMBERS})
class VectorField(serializers.Field[NDArray[np.float64], Any, Any, Any]):
    """A list of finite numbers, checked as a whole: a vector may have 76,800."""

    default_error_messages = {"invalid": "must be a list of finite numbers."}

    def to_internal_value(self, data: Any) -> NDArray[np.float64]:
        if not isinstance(data, list) or not 0 < len(data) <= MOST_NUMBERS:
            self.fail("invalid")
        if any(type(number) not in (float, int) for number in data):
            self.fail("invalid")
        try:
            vector = np.array(data, np.float64)
        except OverflowError:
            self.fail("invalid")
        if not np.isfinite(vector).all():
            self.fail("invalid")
        return vector


@extend_schema_field(OpenApiTypes.DATETIME)
class PlayedAtField(serializers.Field[datetime | None, Any, Any, Any]):
    """A time in RFC 3339, however many digits its seconds have. Go's zero time is none."""

    default_error_messages = {"invalid": "must be a time such as 2025-01-31T12:00:00.123456789Z."}

    def to_internal_value(self, data: Any) -> datetime | None:
        try:
            time = parse_datetime(data) if isinstance(data, str) else None
        except ValueError:
            time = None
        if time is None:
            self.fail("invalid")
        if time.year == 1:
            return None
        return time if time.tzinfo else time.replace(tzinfo=UTC)


@extend_schema_field({"type": "array", "items": {"type": "string", "maxLength": LONGEST_TEXT}})
class TextsField(serializers.Field[list[str], Any, Any, Any]):
    """A list of ids or prompts, however long, checked as a whole: an excluded playlist may have 50,000 tracks."""

    default_error_messages = {"invalid": "must be a list of strings.", "unfit": "holds a string that cannot be."}

    def to_internal_value(self, data: Any) -> list[str]:
        if not isinstance(data, list) or any(type(text) not in (str, int) for text in data):
            self.fail("invalid")
        texts = [str(text) for text in data]
        whole = "".join(texts)
        if max(map(len, texts), default=0) > LONGEST_TEXT or "\0" in whole or SURROGATE.search(whole):
            self.fail("unfit")
        return texts


def _texts() -> TextsField:
    return TextsField(allow_null=True, required=False)


def _number(low: float, high: float) -> serializers.FloatField:
    return serializers.FloatField(min_value=low, max_value=high, allow_null=True, required=False)


class SeedSerializer(serializers.Serializer[dict[str, Any]]):
    track_id = serializers.CharField(allow_blank=True, allow_null=True, required=False, trim_whitespace=False)
    weight = _number(0, LARGEST_WEIGHT)
    source = serializers.CharField(allow_blank=True, allow_null=True, required=False)  # type: ignore[assignment]  # a field
    played_at = PlayedAtField(allow_null=True, required=False)
    embedding = VectorField(allow_null=True, required=False)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Like the last plays",
            {
                "user_id": "u1",
                "limit": 25,
                "mode": "recent",
                "seeds": [
                    {"track_id": "0a1b2c", "weight": 0.5, "source": "recent", "played_at": "2026-11-24T20:15:00Z"}
                ],
                "diversity": 0.2,
                "models": ["muq", "mert"],
            },
        )
    ]
)
class PlaylistSerializer(serializers.Serializer[dict[str, Any]]):
    """Body of the request. What is absent or null has its default; unknown fields are ignored."""

    user_id = serializers.CharField(allow_blank=True, allow_null=True, required=False)
    limit = serializers.IntegerField(min_value=1, max_value=500, allow_null=True, required=False)
    seeds = SeedSerializer(
        many=True,
        allow_null=True,
        required=False,
        max_length=MOST_IN_A_LIST,  # type: ignore[call-arg]  # DRF hands it to the list
    )
    diversity = _number(0, 1)
    exclude_track_ids = _texts()
    exclude_playlist_ids = _texts()
    disliked_track_ids = _texts()
    disliked_artist_ids = _texts()
    dislike_strength = _number(0.3, 1)
    models = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_KEYS), allow_null=True, required=False, max_length=100
    )
    merge_strategy = serializers.ChoiceField(choices=MERGES, allow_null=True, required=False)
    model_priorities = serializers.DictField(child=serializers.IntegerField(), allow_null=True, required=False)
    min_model_agreement = serializers.IntegerField(min_value=1, allow_null=True, required=False)
    negative_prompts = _texts()
    negative_prompt_penalty = _number(0.3, 1)
    negative_embeddings = serializers.DictField(
        child=serializers.ListField(child=VectorField(), allow_null=True, max_length=100),
        allow_null=True,
        required=False,
    )
    library_ids = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=2**63 - 1),
        allow_null=True,
        required=False,
        max_length=MOST_IN_A_LIST,
    )

    def validate_model_priorities(self, value: dict[str, int] | None) -> dict[str, int] | None:
        return _of_known_models(value)

    def validate_negative_embeddings(self, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return _of_known_models(value)

    def query(self, mode: str) -> Query:
        """Return what was asked for."""
        given = {name: value for name, value in self.validated_data.items() if value is not None}
        names = {
            "merge_strategy": "merge",
            "model_priorities": "priorities",
            "min_model_agreement": "min_agreement",
            "negative_prompt_penalty": "negative_penalty",
        }
        options = {names.get(name, name): value for name, value in given.items()}
        options["seeds"] = [_seed(each) for each in given.get("seeds", ()) if each is not None]
        options["models"] = given.get("models") or DEFAULT_MODELS
        options["merge"] = given.get("merge_strategy", UNION)
        options["priorities"] = PRIORITIES | given.get("model_priorities", {})
        negative = given.get("negative_embeddings", {})
        options["negative_embeddings"] = {model: vectors for model, vectors in negative.items() if vectors}
        return Query(mode=mode, **options)


class PlaylistView(APIView):
    """Music that sounds like the seeds. Whatever is missing from the answer is told in its warnings."""

    contract = True
    costs_device_time = True  # prompts
    scopes: ClassVar[Mapping[str, Scope]] = {"post": Scope.READ}

    @extend_schema(request=PlaylistSerializer, responses=PlaylistAnswerSerializer)
    def post(self, request: Request, mode: str) -> Response:
        """Recommend tracks. ``mode`` is any name; it does not change the answer."""
        body = PlaylistSerializer(data=request.data)
        if not body.is_valid():
            raise Unprocessable(sentence(body.errors))
        answer = recommend(body.query(mode))
        return Response({"tracks": [_track(each) for each in answer.tracks], "warnings": answer.warnings})


def _track(found: Recommendation) -> dict[str, Any]:
    return {
        "track_id": found.track_id,
        "score": found.score,
        "reason": found.reason,
        "models": list(found.models),
        "negative_similarity": found.negative_similarity,
    }


def _seed(given: dict[str, Any]) -> Seed:
    return Seed(**{name: value for name, value in given.items() if value is not None})


def _of_known_models(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if unknown := sorted(set(value or ()) - set(MODEL_KEYS)):
        raise serializers.ValidationError(f"{unknown[0]!r} is not a model; there are {', '.join(MODEL_KEYS)}.")
    return value
