"""The engine against a brute-force oracle, in libraries small enough for every track to be a candidate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embeddings.search.query import MERGES
from embeddings.search.recommend import Query, Seed, recommend
from tests.search.conftest import DIMENSIONS, USERS, Library, clustered, fill, row
from tests.search.oracle import answer

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
COUNT = 30
IDS = [f"t{number:02}" for number in range(COUNT)]
ODD = ["", "unknown", 'qu"ote', "back\\slash", "' or 1=1 --", "a\nb", "x" * 300, "\U0001f941", "[]"]
MODELS = list(DIMENSIONS)

ids = st.sampled_from(IDS + ODD)
some_ids = st.lists(ids, max_size=5)
weights = st.one_of(st.just(1.0), st.floats(0, 3), st.sampled_from([1e-300, 1e6]))
times = st.none() | st.integers(-3, 4000).map(lambda days: NOW - timedelta(days=days, seconds=1))


@st.composite
def vectors(draw: st.DrawFn, *, odd: bool = True) -> Any:
    """A vector that fits a model, at times one of a text, or one that cannot be used."""
    dimension = draw(st.sampled_from([*DIMENSIONS.values(), 5]) if odd else st.sampled_from(list(DIMENSIONS.values())))
    vector = 3 * clustered(1, dimension, draw(st.integers(0, 10**6)))[0].astype(np.float64)
    kind = draw(st.sampled_from(["whole", "whole", "text", "zero", "infinite"] if odd else ["whole", "text"]))
    if kind == "text":
        vector[dimension // 3 :] = 0
    if kind == "zero":
        vector[:] = 0
    if kind == "infinite":
        vector[0] = np.inf
    return vector


seeds = st.builds(Seed, track_id=ids, weight=weights, played_at=times) | st.builds(
    Seed,
    track_id=st.sampled_from(["_text_query_", "given", "t01"]),
    weight=weights,
    source=st.sampled_from(["text", "", "upload"]),
    embedding=vectors(),
)
queries = st.builds(
    Query,
    seeds=st.lists(seeds, max_size=9),
    limit=st.sampled_from([1, 3, 10, 25, 500]),
    models=st.lists(st.sampled_from(MODELS), min_size=1, max_size=4),
    merge=st.sampled_from(MERGES),
    priorities=st.dictionaries(st.sampled_from(MODELS), st.integers(-1, 3)),
    min_agreement=st.sampled_from([1, 1, 2, 3, 99]),
    diversity=st.sampled_from([0.0, 0.0, 0.3, 0.6, 1.0]),
    exclude_track_ids=some_ids,
    exclude_playlist_ids=st.lists(st.sampled_from(["p1", "p2", "p?"]), max_size=2),
    disliked_track_ids=some_ids,
    disliked_artist_ids=st.lists(st.sampled_from(["a1", "a2", "guest", "?"]), max_size=2),
    dislike_strength=st.sampled_from([0.3, 0.7, 1.0]),
    negative_penalty=st.sampled_from([0.3, 0.85, 1.0]),
    negative_embeddings=st.dictionaries(st.sampled_from(MODELS), st.lists(vectors(), max_size=2), max_size=2),
    library_ids=st.sampled_from([[], [], [1], [2], [1, 2], [77]]),
    user_id=st.sampled_from(["", *USERS]),
)


@st.composite
def tracks(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """What Navidrome says: some tracks are gone or missing, some share titles, artists and guests."""
    gone = draw(st.sets(st.sampled_from(IDS), max_size=6))
    missing = draw(st.sets(st.sampled_from(IDS), max_size=4))
    titles = draw(st.sampled_from([COUNT, 7, 2]))
    artists = draw(st.sampled_from([9, 3, 1]))
    guests = draw(st.sets(st.sampled_from(IDS), max_size=4))
    unnamed = draw(st.sets(st.sampled_from(IDS), max_size=3))
    return {
        i: row(
            number,
            title="" if i in unnamed else f"Title {number % titles}",
            artist=f"Artist {number % artists}",
            artist_id=f"a{number % artists}",
            participants={f"a{number % artists}"} | ({"guest"} if i in guests else set()),
            missing=i in missing,
        )
        for number, i in enumerate(IDS)
        if i not in gone
    }


@pytest.mark.parametrize("seed", [0, 100])
def test_ranking_is_that_of_brute_force(library: Library, seed: int) -> None:
    fill(library, seed, COUNT)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(query=queries, told=tracks(), playlist=some_ids)
    def check(query: Query, told: dict[str, dict[str, Any]], playlist: list[str]) -> None:
        library.tell(told, {"p1": playlist, "p2": ["t02", "t04"]})
        expected = answer(library.world, query, NOW)
        found = recommend(query, now=NOW, seconds=60).tracks
        assert [each.track_id for each in found] == [track for track, _ in expected]
        assert [each.score for each in found] == pytest.approx([score for _, score in expected], abs=1e-9)

    check()
