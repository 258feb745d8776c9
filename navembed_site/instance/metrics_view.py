"""``/metrics`` for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from navembed_site.http.remembered import Remembered
from navembed_site.instance.metrics import InstanceCollector

registry = CollectorRegistry()  # of our own: what the library counts by itself is of one web process
registry.register(InstanceCollector())
text = Remembered(lambda: generate_latest(registry))
EXAMPLE = OpenApiExample(
    "Some of it",
    'navembed_up{process="embedder-0"} 1.0\nnavembed_jobs{status="running"} 1.0\n',
    media_type="text/plain",
)


class TextRenderer(BaseRenderer):
    """Only says what comes."""

    media_type = "text/plain"
    format = "txt"
    charset = "utf-8"


class WhateverIsAccepted(BaseContentNegotiation):
    """There is one format, and every Prometheus reads it, whatever it would like best."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, renderer.media_type


class MetricsView(APIView):
    """The figures of this instance for Prometheus."""

    renderer_classes = [TextRenderer]
    content_negotiation_class = WhateverIsAccepted

    @extend_schema(tags=["metrics"], responses={(200, "text/plain"): OpenApiResponse(str, examples=[EXAMPLE])})
    def get(self, request: Request) -> HttpResponse:
        """Show the figures of this instance as Prometheus reads them; at most ten seconds old."""
        return HttpResponse(text.get(), content_type=CONTENT_TYPE_LATEST)
