"""SQLite's file, which only we can make smaller; PostgreSQL sees to its own."""

from __future__ import annotations

import pytest
from django.db import connection

from batches import housekeeping
from batches.housekeeping import give_back
from embeddings.models import Embedding
from tests.milvus import LiteServer
from tests.spaces.conftest import make_space


@pytest.mark.django_db(transaction=True)
def test_file_of_the_database_shrinks(milvus: LiteServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SPARE_PAGES", 20)
    space = make_space("old", "dropping")
    Embedding.objects.bulk_create(
        Embedding(space=space, track_id=f"t{n}", windows=1, audio_seconds=1, size=1, vector=b"x" * 150_000)
        for n in range(40)
    )
    before = pages()
    assert give_back(60) == 40
    assert before - pages() > 1_000
    assert housekeeping.free_pages() <= 20


def pages() -> int:
    with connection.cursor() as cursor:
        return int(cursor.execute("PRAGMA page_count").fetchone()[0])
