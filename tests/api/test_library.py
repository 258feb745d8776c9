"""How much of the library is embedded."""

from __future__ import annotations

import pytest
from django.test import Client

from tests.batches.rows import make_embedding, make_space, make_tracks

pytestmark = [pytest.mark.django_db, pytest.mark.database]

URL = "/api/v1/library"


def test_counts_by_model(client: Client) -> None:
    tracks = make_tracks(3)
    make_embedding(make_space("muq"), tracks[0])
    shown = client.get(URL).json()
    assert (shown["playable"], shown["last_job"]) == (3, None)
    assert shown["models"]["muq"] == {
        "embedded": 1,
        "missing": 2,
        "failed": 0,
        "ignored": 0,
        "orphaned": 0,
        "indexed": 0,
    }


def test_unchanged_counts_are_not_sent_again(client: Client) -> None:
    tag = client.get(URL)["ETag"]
    reply = client.get(URL, headers={"If-None-Match": tag})
    assert (reply.status_code, reply.content) == (304, b"")
