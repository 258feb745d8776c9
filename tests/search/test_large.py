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


def test_lists_are_filled_though_they_are_long_or_what_is_near_is_of_one_artist(library: Library) -> None:
    ids = [f"t{number:04}" for number in range(COUNT)]
    library.embed("muq", dict(zip(ids, np.concatenate(list(clustered(COUNT, 48))), strict=True)))
    library.tell({i: row(n) for n, i in enumerate(ids)})
    long = recommend(Query(seeds=[Seed("t0000")], limit=500), now=NOW, seconds=60).tracks
    assert len(long) == 500
    near = {each.track_id for each in long[:220]}
    by_one = {"artist": "One", "artist_id": "one"}
    library.tell({i: row(n) | (by_one if i in near else {}) for n, i in enumerate(ids)})
    mix = recommend(Query(seeds=[Seed("t0000")], limit=20, per_artist=3), now=NOW, seconds=60).tracks
    assert [each.track_id in near for each in mix] == [True] * 3 + [False] * 17


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
