"""A query's way through one model, on real Milvus Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embeddings.models import EmbeddingSpace
from embeddings.search.neighbours import nearest_to_track
from embeddings.search.recommend import Query, Seed, recommend
from tests.milvus import LiteServer
from tests.navidrome_db import make_navidrome
from tests.spaces.conftest import indexed, make_space

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def live(milvus: LiteServer, settings: Any, tmp_path: Path) -> EmbeddingSpace:
    tracks = [{"id": f"t{n}", "path": f"{n}.mp3", "title": f"T{n}"} for n in range(10)]
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "navidrome.db", tracks)
    return indexed(make_space("old", vectors=10))


def test_one_seed_gets_its_neighbours(live: EmbeddingSpace) -> None:
    answer = recommend(Query(seeds=[Seed("t1")]))
    assert [each.track_id for each in answer.tracks] == [each.track_id for each in nearest_to_track("muq", "t1")]
    assert answer.warnings == []
