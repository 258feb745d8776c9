"""A lane has one holder; messages only wake it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from batches import services
from batches.engine import chunks, leases, runner
from batches.engine.leases import LaneLost, Lease
from batches.engine.runner import run_lane
from batches.models import Lane
from embeddings.models import Embedding
from tests.batches.rows import make_job, make_tracks, success, take_lane

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def expire(lease: Lease) -> None:
    Lane.objects.filter(pk=lease.lane_id).update(lease_until=timezone.now() - timedelta(seconds=1))


def messages() -> list[Any]:
    return [message.task["args"] for message in OrmQ.objects.filter(key="jobs").order_by("pk")]


def test_stale_message_does_nothing(lease: Lease) -> None:
    lease.release()
    assert leases.take(0, lease.seq - 1) is None
    assert run_lane(0, lease.seq - 1) == "stale"


def test_message_for_a_lane_that_is_awake_does_nothing(lease: Lease) -> None:
    assert leases.take(0, lease.seq) is None


def test_message_for_an_unknown_lane_does_nothing() -> None:
    assert leases.take(7, 0) is None


def test_message_that_comes_twice_works_once(lease: Lease) -> None:
    lease.release()
    assert leases.take(0, lease.seq)
    assert leases.take(0, lease.seq) is None


def test_turn_without_a_job_lets_the_lane_sleep(lease: Lease) -> None:
    lease.release()
    assert run_lane(0, lease.seq) == "idle"
    assert (Lane.objects.get().lease_until, messages()) == (None, [])


def test_expired_lease_is_taken_over(lease: Lease) -> None:
    expire(lease)
    new = leases.take(0, lease.seq)
    assert new
    assert new.seq == lease.seq + 1


def test_former_holder_cannot_renew_and_its_release_changes_nothing(lease: Lease) -> None:
    expire(lease)
    leases.take(0, lease.seq)
    with pytest.raises(LaneLost):
        lease.renew()
    lease.release()
    assert Lane.objects.get().lease_until is not None


def test_former_holder_cannot_commit(lease: Lease) -> None:
    job = make_job(make_tracks(1))
    chunk = chunks.claim(job, lease)
    assert chunk
    expire(lease)
    leases.take(0, lease.seq)
    with pytest.raises(LaneLost):
        chunks.commit(job, lease, chunk, [success(chunk.tracks[0].track)], 1.0)
    assert not Embedding.objects.exists()
    assert job.results.get().status == "running"


def test_new_holder_takes_up_what_the_former_had_claimed(lease: Lease) -> None:
    job = make_job(make_tracks(1))
    chunks.claim(job, lease)
    new = take_lane()
    assert chunks.claim(job, new) is None
    chunks.release_abandoned(job, new)
    assert chunks.claim(job, new)


def test_worker_that_was_killed_costs_no_attempt(lease: Lease) -> None:
    job = make_job(make_tracks(1))
    for _ in range(3):
        chunks.claim(job, lease)
        lease = take_lane()
        chunks.release_abandoned(job, lease)
    assert list(job.results.values_list("attempts", "deaths")) == [(0, 0)]


def test_what_another_lane_works_on_is_left_to_it(lease: Lease, settings: Any) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")
    job = make_job(make_tracks(1))
    chunks.claim(job, take_lane(1))
    chunks.release_abandoned(job, lease)
    assert job.results.get().status == "running"


def test_what_a_removed_device_had_claimed_is_taken_up(lease: Lease) -> None:
    job = make_job(make_tracks(1))
    chunks.claim(job, take_lane(1))
    chunks.release_abandoned(job, lease)
    assert job.results.get().status == "pending"


def test_release_goes_on_while_a_job_is_open(lease: Lease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    lease.release()
    assert messages() == [(0, lease.seq)]


def test_watch_wakes_an_expired_lane_but_none_that_is_awake(lease: Lease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    assert leases.watch() == 0
    expire(lease)
    assert leases.watch() == 1
    assert messages() == [(0, lease.seq)]


def test_watch_without_a_job_wakes_nobody(lease: Lease) -> None:
    expire(lease)
    assert leases.watch() == 0


def test_recovery_frees_lanes_and_wakes_them(lease: Lease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    leases.recover()
    assert messages() == [(0, lease.seq + 1)]
    assert leases.take(0, lease.seq + 1)


def test_every_device_has_a_lane(settings: Any) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")
    services.start_job()
    assert messages() == [(0, 0), (1, 0)]


def test_lane_of_a_second_device_leaves_planning_to_the_first(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")
    monkeypatch.setattr(runner._TimeSlice, "_sleep", lambda turn, *_: setattr(turn, "deadline", 0.0))
    job = services.start_job()
    assert run_lane(1, 0) == "goes on"
    job.refresh_from_db()
    assert (job.planned, job.status) == (False, "initialized")
