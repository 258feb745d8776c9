"""Spaces that earlier versions have kept."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

BEFORE, AFTER = ("embeddings", "0001_initial"), ("embeddings", "0002_spaces_that_are_kept")


@pytest.mark.django_db(transaction=True)
@pytest.mark.database
def test_newest_kept_space_of_each_model_stays_and_its_time_begins() -> None:
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    try:
        spaces = executor.migrate([BEFORE]).apps.get_model("embeddings", "EmbeddingSpace")
        for model in ("muq", "muq", "mert"):
            spaces.objects.create(model=model, dimension=8, fingerprint="f", recipe={}, status="kept")
        after = MigrationExecutor(connection).migrate([AFTER]).apps.get_model("embeddings", "EmbeddingSpace")
        found = [(space.model, space.status) for space in after.objects.order_by("pk")]
        assert found == [("muq", "dropping"), ("muq", "kept"), ("mert", "kept")]
        assert after.objects.filter(status="kept", kept_at=None).count() == 0
        after.objects.all().delete()
    finally:
        MigrationExecutor(connection).migrate(latest)
