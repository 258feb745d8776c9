"""What is thrown away, and what is kept."""

from __future__ import annotations

import pytest

from batches.housekeeping import delete_gone_tracks
from embeddings.models import Track
from tests.batches.rows import make_embedding, make_job, make_space, make_track

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_gone_tracks_leave_when_nothing_of_them_is_kept() -> None:
    make_track("playable")
    make_embedding(make_space(), make_track("embedded", playable=False))
    make_job([make_track("tried", playable=False)])
    make_track("unknown", playable=False)
    assert delete_gone_tracks() == 1
    assert sorted(Track.objects.values_list("pk", flat=True)) == ["embedded", "playable", "tried"]
