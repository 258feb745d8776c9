"""What is known of our plugin for Navidrome: it tells its version and settings with every call."""

from __future__ import annotations

import re
from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from navembed_site.access.models import Token
from navembed_site.access.tokens import PLUGIN

AGENT = re.compile(re.escape(PLUGIN) + r"(?P<version>\S*)(?: \((?P<settings>.*)\))?")

Body = serializers.Serializer[dict[str, Any]]


class ConnectionSerializer(Body):
    """A Navidrome whose plugin has reached us."""

    token = serializers.CharField(help_text="Name of the token that it calls with.")
    version = serializers.CharField()
    settings = serializers.CharField()
    last_call_at = serializers.DateTimeField(help_text="To the minute.")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "One Navidrome",
            {
                "connections": [
                    {
                        "token": "navidrome",
                        "version": "0.1.0",
                        "settings": "models=muq,mert; diversity=0; per_artist=5; max_minutes=0",
                        "last_call_at": "2026-11-27T21:00:00Z",
                    }
                ]
            },
        )
    ]
)
class PluginStatusSerializer(Body):
    """The plugins that have called, the latest first; none has when there is no connection."""

    connections = ConnectionSerializer(many=True)


class PluginStatusView(APIView):
    """Navidrome's plugin."""

    @extend_schema(responses=PluginStatusSerializer)
    def get(self, request: Request) -> Response:
        """Show which plugins have reached us, and with which settings.

        The plugin asks this when Navidrome loads it: its answer is the test of the connection.
        """
        called = Token.objects.exclude(plugin="").filter(revoked=False).order_by("-last_used_at", "-pk")
        return Response({"connections": [_connection(token) for token in called]})


def _connection(token: Token) -> dict[str, Any]:
    told = AGENT.match(token.plugin)
    return {
        "token": token.name,
        "version": (told and told["version"]) or "",
        "settings": (told and told["settings"]) or "",
        "last_call_at": token.last_used_at,
    }
