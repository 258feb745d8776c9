"""The machines that work for this instance."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches.selectors.hosts import hosts
from navembed_site.http.pagination import OnePage

Body = serializers.Serializer[dict[str, Any]]


class DeviceSerializer(Body):
    """What computes on a host."""

    index = serializers.IntegerField(help_text="Number of the embedder on its host.")
    kind = serializers.CharField(allow_blank=True, help_text="Empty until its embedder has answered.")
    loaded = serializers.ListField(child=serializers.CharField(), help_text="Models in its memory.")
    rates = serializers.DictField(
        child=serializers.FloatField(), help_text="By model: seconds of audio per second of work, lately."
    )
    problem = serializers.CharField(allow_blank=True, help_text="What keeps it from working at present.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A GPU machine beside the one with the library",
            {
                "key": "5f0c91aa",
                "name": "tower",
                "is_here": True,
                "seen_at": "2026-11-27T21:00:00Z",
                "devices": [
                    {
                        "index": 0,
                        "kind": "NVIDIA GeForce RTX 3060 (cuda)",
                        "loaded": ["mert", "muq"],
                        "rates": {"muq": 900.5, "mert": 210.0},
                        "problem": "",
                    }
                ],
            },
        )
    ]
)
class HostSerializer(Body):
    """A machine with a worker of this instance."""

    key = serializers.CharField()
    name = serializers.CharField()
    is_here = serializers.BooleanField(help_text="Whether its worker runs.")
    seen_at = serializers.DateTimeField(help_text="Its last sign of life.")
    devices = DeviceSerializer(many=True)


class HostViewSet(GenericViewSet[Any]):
    """The machines that work for this instance."""

    serializer_class = HostSerializer
    pagination_class = OnePage

    def list(self, request: Request) -> Response:
        """List hosts with their devices."""
        return self.get_paginated_response(self.get_serializer(hosts(), many=True).data)
