"""The clock is set back by a day: what was to come in a minute still does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from django.utils import timezone
from django_q.brokers.orm import ORM
from django_q.models import Schedule
from django_q.tasks import async_task

from batches import tasks, webhook
from batches.engine import chunks, leases
from batches.engine.leases import DeviceLease
from embeddings.library.sync import sync_tracks
from embeddings.models import EmbeddingSpace
from embeddings.spaces.pruning import prune
from navembed_site.process import clock
from navembed_site.process.heartbeat import Watch
from tests.batches.conftest import Music
from tests.batches.rows import make_job, make_tracks
from tests.batches.test_away import embedded, scan_and_prune, scanned

pytestmark = [pytest.mark.django_db, pytest.mark.database]

SetBack = Callable[[timedelta], None]
DAY = timedelta(days=1)


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> SetBack:
    """Sets the clock back that Django shows."""
    now = timezone.now

    def set_back(by: timedelta) -> None:
        monkeypatch.setattr(timezone, "now", lambda: now() - by)

    return set_back


def test_a_device_whose_holder_died_before_is_woken(lease: DeviceLease, set_back: SetBack) -> None:
    make_job(make_tracks(1))
    set_back(DAY)
    assert (leases.watch(), leases.take(lease.device.pk, lease.seq)) == (1, DeviceLease(lease.device, lease.seq + 1))


def test_a_holder_that_lives_keeps_its_device(lease: DeviceLease, set_back: SetBack) -> None:
    make_job(make_tracks(1))
    set_back(DAY)
    lease.renew()
    assert leases.watch() == 0


def test_a_track_is_tried_again_after_its_pause(lease: DeviceLease, set_back: SetBack) -> None:
    job = make_job(make_tracks(1))
    job.results.update(not_before=timezone.now() + chunks.PAUSES[0])
    assert chunks.claim(job, lease) is None
    set_back(DAY)
    assert chunks.claim(job, lease)


def test_messages_and_schedules_follow_the_clock(set_back: SetBack) -> None:
    tasks.ensure_schedules()
    async_task("batches.tasks.watch_devices", cluster="light")
    watch = Watch("light", cast("Any", None))
    set_back(DAY)
    assert not ORM(list_key="light").dequeue()
    watch._mind_clock()
    assert len(ORM(list_key="light").dequeue()) == 1
    for schedule in Schedule.objects.all():
        assert schedule.next_run <= timezone.now() + timedelta(minutes=schedule.minutes or 0)


def test_schedules_of_before_a_restart_are_no_further_away_than_their_pause(set_back: SetBack) -> None:
    tasks.ensure_schedules()
    Schedule.objects.create(func=webhook.TASK, schedule_type=Schedule.ONCE, next_run=timezone.now())
    set_back(2 * DAY)
    tasks.ensure_schedules()
    assert Schedule.objects.latest("next_run").next_run <= timezone.now() + DAY
    assert Schedule.objects.get(func=webhook.TASK).next_run <= timezone.now() + webhook.PAUSES[-1]


# Vectors of what is away


@pytest.fixture
def away(music: Music) -> EmbeddingSpace:
    """Four tracks with vectors, one of which Navidrome calls missing now."""
    space = scanned(music, "abcd")
    music.change("d", missing=1)
    return space


@pytest.mark.parametrize("steps", [[9_000, 0], [20, 9_000, 20, 0], [-9_000, 0], [3, -9_000, 3, -9_000, 0]])
def test_a_clock_that_jumps_deletes_nothing(away: EmbeddingSpace, set_back: SetBack, steps: list[int]) -> None:
    for days in steps:
        set_back(days * DAY)
        scan_and_prune(away)
    assert embedded() == ["a", "b", "c", "d"]


def test_a_clock_that_jumps_in_the_middle_of_a_job_deletes_nothing(away: EmbeddingSpace, set_back: SetBack) -> None:
    set_back(9_000 * DAY)
    sync_tracks()
    set_back(timedelta())
    prune(away, lambda: None)
    assert embedded() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("each", "kept"), [(7, False), (9, True)])
def test_only_time_in_which_jobs_look_counts(away: EmbeddingSpace, set_back: SetBack, each: int, kept: bool) -> None:
    for days in range(63, -1, -each):
        set_back(days * DAY)
        scan_and_prune(away)
    assert ("d" in embedded()) is kept


def test_small_steps_add_up_and_steps_forward_do_not_count(set_back: SetBack) -> None:
    mine = clock.Clock()
    found = []
    for seconds in (1.2, 2.4, -60, 0):
        set_back(timedelta(seconds=seconds))
        found.append(round(mine.set_back().total_seconds()))
    assert found == [0, 2, 0, 60]
