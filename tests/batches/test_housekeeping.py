"""What is thrown away, and what is kept."""

from __future__ import annotations

import pytest
from django.utils import timezone

from batches.housekeeping import KEEP_SUCCESSES, delete_gone_tracks, delete_old_results
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


def test_old_successes_leave_but_for_those_of_which_something_is_to_be_said() -> None:
    job = make_job([make_track("a"), make_track("b")])
    job.results.update(status="succeeded")
    job.results.filter(track="b").update(note="12 of 240 s could not be decoded")
    type(job).objects.update(status="completed", finished_at=timezone.now() - KEEP_SUCCESSES * 2)
    assert delete_old_results() == 1
    assert job.results.get().track_id == "b"
