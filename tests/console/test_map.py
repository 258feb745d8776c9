"""What the map's points are coloured by."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from embeddings.maps import making
from embeddings.maps.making import make_map
from embeddings.models import SpaceMap, Track
from navembed_site.console.colours import GREY, colours, legend
from tests.batches.rows import make_embedding, make_space, make_track

pytestmark = pytest.mark.django_db


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> SpaceMap:
    """The map of a sample of twenty tracks out of sixty: half of all are jazz, a few are not of any genre."""
    monkeypatch.setattr(making, "MOST_TRACKS", 20)
    space = make_space("muq")
    for number in range(60):
        make_embedding(space, make_track(f"t{number:02}", genre="Jazz" if number % 2 else "" if number < 6 else "Folk"))
    return make_map(space)


@pytest.mark.database
def test_only_what_is_drawn_is_read(drawn: SpaceMap) -> None:
    assert colours(drawn, "genre")["key"].astype("<i8").tobytes() == drawn.keys


def test_the_legend_counts_all_tracks_and_the_points_do_not_ask_again(drawn: SpaceMap) -> None:
    assert [(each.name, each.tracks) for each in legend(drawn, "genre")] == [("Jazz", 30), ("Folk", 27), ("Others", 3)]
    genres = dict(
        Track.objects.filter(embeddings__in=list(colours(drawn, "album")["key"])).values_list("embeddings", "genre")
    )
    with CaptureQueriesContext(
        connection,
    ) as asked:
        points = colours(drawn, "genre")
    assert dict(points.tolist()) == {key: {"Jazz": 0, "Folk": 1}.get(genre, GREY) for key, genre in genres.items()}
    assert len(asked) == 1
