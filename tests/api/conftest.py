"""Every test here calls as an operator who is signed in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from batches.api.v1 import library
from navembed_site.instance import metrics, metrics_view
from tests.instances import checkpoints, embedder, embedder_process

__all__ = ["checkpoints", "embedder", "embedder_process"]

SESSION = 2  # queries by which a caller's session and user are found


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What is counted once for several calls is counted anew for each test."""
    yield
    for remembered in (library.counts, library.rest, metrics_view.text, metrics._library_counts):
        remembered.forget()


@pytest.fixture
def client(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    return client


def page_through(client: Client, address: str) -> list[dict[str, Any]]:
    """The entries of all pages from ``address`` on."""
    rows, next_address = [], address
    while next_address:
        page = client.get(next_address).json()
        rows += page["results"]
        next_address = page["next"]
    return rows
