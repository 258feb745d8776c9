"""Search never compares vectors of two spaces, also while the live one changes."""

from __future__ import annotations

import numpy as np
import pytest

from embeddings.models import EmbeddingSpace
from embeddings.search import neighbours
from embeddings.search.neighbours import nearest_in, nearest_to_track
from embeddings.spaces.lifecycle import make_live
from tests.index.conftest import unit
from tests.milvus import LiteServer
from tests.spaces.conftest import DIMENSION, embed, indexed, make_space

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def live(milvus: LiteServer) -> EmbeddingSpace:
    return indexed(make_space("old", vectors=10))


@pytest.fixture
def build(live: EmbeddingSpace) -> EmbeddingSpace:
    """The same tracks with altogether other vectors."""
    space = make_space("new", "building")
    embed(space, unit(10, DIMENSION, seed=7))
    return indexed(space)


def test_switch_between_look_up_and_query_compares_vectors_of_one_space(
    live: EmbeddingSpace, build: EmbeddingSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = nearest_to_track("muq", "t3", 5)
    look_up = neighbours.from_bytes

    def switch_and_look_up(*arguments: object) -> object:
        make_live([build])
        return look_up(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(neighbours, "from_bytes", switch_and_look_up)
    assert nearest_to_track("muq", "t3", 5) == expected
    monkeypatch.undo()
    assert nearest_to_track("muq", "t3", 5) != expected


def test_a_build_is_searched_by_itself_and_by_nobody_else(live: EmbeddingSpace, build: EmbeddingSpace) -> None:
    vector = unit(10, DIMENSION, seed=7)[2]
    assert nearest_in(build, vector, limit=1)[0].score == pytest.approx(1)
    assert nearest_in(live, vector, limit=1)[0].score < 0.99
    assert np.isfinite(nearest_in(live, vector, limit=10)[-1].score)
