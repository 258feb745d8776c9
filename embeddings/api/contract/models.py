"""What the Go server asks of models and texts; each view parses, calls one service and renders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.api.contract.bodies import (
    ModelOverviewSerializer,
    TextHealthSerializer,
    TextSerializer,
    TextVectorSerializer,
)
from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import TextUnavailable
from embeddings.search.overview import health, model_overview
from embeddings.search.text import clean_prompt, text_vector
from navembed_site.access.scopes import Scope
from navembed_site.http.problems import Unprocessable

WAIT_SECONDS = 25.0
"""For an embedder that is being started, or loads: the caller gives up after 30."""
DECIMALS = 9
"""Of a number in JSON: a unit vector of 76,800 keeps six digits and more, and its body is half as long."""


class Asked(NamedTuple):
    """Body of ``POST /embed_text``."""

    prompt: str
    model: str


class EmbedTextView(APIView):
    """A text as a vector of a model's space."""

    contract = True
    costs_device_time = True
    scopes: ClassVar[Mapping[str, Scope]] = {"post": Scope.READ}

    @extend_schema(request=TextSerializer, responses=TextVectorSerializer)
    def post(self, request: Request) -> Response:
        """Embed a text. 422 says what to run when the model cannot read."""
        try:
            asked = _asked(request.data)
            vector = text_vector(asked.model, asked.prompt, wait_seconds=WAIT_SECONDS, patient=True)
        except (ValueError, TextUnavailable) as error:
            raise Unprocessable(str(error)) from error
        numbers = np.round(vector.astype(np.float64), DECIMALS).tolist()
        return Response({"embedding": numbers, "model": asked.model, "dimension": len(numbers), "is_stub": False})


class ModelsView(APIView):
    """What each model is, and whether it can be searched by text. Answers also while everything else is away."""

    contract = True

    @extend_schema(responses=ModelOverviewSerializer(many=True))
    def get(self, request: Request) -> Response:
        return Response(model_overview())


class HealthView(APIView):
    """Whether the web server answers, and what is known of the device."""

    contract = True

    @extend_schema(responses=TextHealthSerializer)
    def get(self, request: Request) -> Response:
        return Response(health())


def _asked(data: Any) -> Asked:
    """Raises ValueError with a sentence when it is not a text for a known model."""
    if not isinstance(data, dict):
        raise ValueError("the body must be a JSON object with the text")
    text, model = data.get("text"), data.get("model")
    if not isinstance(text, str):
        raise ValueError("text must be a string")
    if model is None:
        model = TEXT_MODEL.audio_model
    if not isinstance(model, str) or model not in MODEL_KEYS:
        raise ValueError(f"model must be one of {', '.join(MODEL_KEYS)}")
    return Asked(clean_prompt(text), model)
