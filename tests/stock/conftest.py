"""What the tests of stock Navidrome share: the library of the tests of search, and a caller with a token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.search.conftest import Library, library, lite_server, milvus, music

__all__ = ["Library", "library", "lite_server", "milvus", "music"]

Ask = Callable[..., Any]


@pytest.fixture
def secret(db: None) -> str:
    return create_token("navidrome", Scope.READ, created_by="test").secret


@pytest.fixture
def ask(secret: str) -> Ask:
    """Return what an address answers to somebody with a token."""
    client = Client(HTTP_AUTHORIZATION=f"Bearer {secret}")

    def get(address: str, **asked: Any) -> Any:
        reply = client.get(address, asked)
        assert reply.status_code == 200, reply.content
        return reply.json()

    return get
