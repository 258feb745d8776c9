"""A library in which not every track is a candidate."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from embeddings.index.projection import SEARCH_DIMENSION
from embeddings.search.recommend import Query, Seed, recommend
from navembed_site.benchmarks.index import clustered
from tests.search.conftest import Library, row
from tests.search.oracle import answer

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, tzinfo=UTC)
COUNT = 600
QUERIES = 6


@pytest.mark.parametrize("model", ["muq", "mert"])
def test_first_ten_are_those_of_brute_force(library: Library, model: str) -> None:
    dimension = {"muq": 48, "mert": SEARCH_DIMENSION + 400}[model]  # the latter is searched by a projection
    ids = [f"t{number:04}" for number in range(COUNT)]
    library.embed(model, dict(zip(ids, np.concatenate(list(clustered(COUNT, dimension))), strict=True)))
    library.tell({i: row(n) for n, i in enumerate(ids)})
    random = np.random.default_rng(1)
    kept = 0
    for _ in range(QUERIES):
        query = Query(seeds=[Seed(each) for each in random.choice(ids, 2, replace=False)], models=[model], limit=10)
        found = {each.track_id for each in recommend(query, now=NOW, seconds=60).tracks}
        kept += len(found & {track for track, _ in answer(library.world, query, NOW)})
    assert kept / (10 * QUERIES) >= 0.99
