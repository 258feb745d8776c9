"""Filters of lists, checked before they reach a query."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.serializers import Serializer


def query(filters: type[Serializer[dict[str, Any]]], request: Request) -> dict[str, Any]:
    """Return what the address asks for, as ``filters`` understands it. Raises ValidationError."""
    asked = filters(data=request.query_params)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)
