"""A device has one holder, and so has the planning and completion of a job; messages only wake."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone
from django_q.models import OrmQ

from batches import services
from batches.engine import chunks, completion, hosts, leases, runner
from batches.engine.leases import DeviceLease, Lease, LeaseLost, Looks, free_abandoned, take_job
from batches.engine.runner import run_device
from batches.models import BatchJob, Device, Host
from embeddings.models import Embedding
from embeddings.search import comparing
from navembed_site.process.host import host_key
from navembed_site.process.slow_calls import RaiseIfStopped
from tests.batches.rows import device, elsewhere, make_embedding, make_job, make_tracks, success, take_device, work_on

pytestmark = [pytest.mark.django_db, pytest.mark.database]


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += leases.LOOK_SECONDS
        return self.now


def expire(lease: DeviceLease) -> None:
    Device.objects.filter(pk=lease.device.pk).update(lease_until=timezone.now() - timedelta(seconds=1))


def messages(key: str = "") -> list[Any]:
    queue = OrmQ.objects.filter(key=hosts.queue_of(key or host_key()))
    return [message.task["args"] for message in queue.order_by("pk")]


def look(looks: Looks, row: Any, times: int = leases.LOOKS + 1) -> bool:
    """Look at a row so often, a second apart; whether it was abandoned in the end."""
    return [looks.is_abandoned(row) for _ in range(times)][-1]


def test_stale_message_does_nothing(lease: DeviceLease) -> None:
    lease.release()
    assert leases.take(lease.device.pk, lease.seq - 1) is None
    assert run_device(lease.device.pk, lease.seq - 1) == "stale"


def test_message_for_a_device_that_is_awake_does_nothing(lease: DeviceLease) -> None:
    assert leases.take(lease.device.pk, lease.seq) is None


def test_message_for_an_unknown_device_does_nothing() -> None:
    assert leases.take(7, 0) is None


def test_message_for_a_device_of_another_host_does_nothing() -> None:
    assert leases.take(elsewhere().pk, 0) is None


def test_message_that_comes_twice_works_once(lease: DeviceLease) -> None:
    lease.release()
    assert leases.take(lease.device.pk, lease.seq)
    assert leases.take(lease.device.pk, lease.seq) is None


def test_without_a_job_a_device_sleeps(lease: DeviceLease) -> None:
    lease.release()
    assert work_on() == "idle"
    assert (device().lease_until, messages()) == (None, [])


def test_expired_lease_is_taken_over(lease: DeviceLease) -> None:
    expire(lease)
    new = leases.take(lease.device.pk, lease.seq)
    assert new
    assert new.seq == lease.seq + 1


def test_former_holder_cannot_renew_and_its_release_changes_nothing(lease: DeviceLease) -> None:
    take_device()
    with pytest.raises(LeaseLost):
        lease.renew()
    lease.release()
    assert device().lease_until is not None


def test_former_holder_cannot_commit(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1))
    chunk = chunks.claim(job, lease)
    assert chunk
    take_device()
    with pytest.raises(LeaseLost):
        chunks.commit(job, lease, chunk, [success(chunk.tracks[0].track)], 1.0)
    assert not Embedding.objects.exists()
    assert job.results.get().status == "running"


def test_new_holder_takes_up_what_the_former_had_claimed(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1))
    chunks.claim(job, lease)
    new = take_device()
    assert chunks.claim(job, new) is None
    chunks.release_abandoned(job, new)
    assert chunks.claim(job, new)


def test_worker_that_was_killed_costs_no_attempt(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1))
    for _ in range(3):
        chunks.claim(job, lease)
        lease = take_device()
        chunks.release_abandoned(job, lease)
    assert list(job.results.values_list("attempts", "deaths")) == [(0, 0)]


def test_what_another_device_works_on_is_left_to_it(lease: DeviceLease) -> None:
    job = make_job(make_tracks(1))
    chunks.claim(job, take_device(1))
    chunks.release_abandoned(job, lease)
    assert (free_abandoned(job, Looks()), job.results.get().status) == (0, "running")


def test_what_a_device_had_claimed_that_renews_no_more_is_queued_again_and_fenced() -> None:
    job = make_job(make_tracks(1))
    dead = take_device(1)
    chunk = chunks.claim(job, dead)
    assert chunk
    looks = Looks(Seconds())
    assert [free_abandoned(job, looks) for _ in range(leases.LOOKS + 1)] == [0] * leases.LOOKS + [1]
    assert list(job.results.values_list("status", "attempts", "device")) == [("pending", 0, None)]
    with pytest.raises(LeaseLost):
        chunks.commit(job, dead, chunk, [success(chunk.tracks[0].track)], 1.0)


def test_a_holder_that_renews_is_not_given_up(lease: DeviceLease) -> None:
    looks = Looks(Seconds())
    for _ in range(leases.LOOKS):
        lease.renew()
        assert not look(looks, device(), times=2)


def test_looks_in_quick_succession_count_as_one(lease: DeviceLease) -> None:
    looks = Looks(lambda: 0.0)
    assert not look(looks, device(), times=10 * leases.LOOKS)


def test_what_a_removed_device_had_claimed_is_taken_up() -> None:
    job = make_job(make_tracks(1))
    chunks.claim(job, take_device(1))
    leases.recover()
    assert (job.results.get().status, Device.objects.filter(index=1).exists()) == ("pending", False)


def test_release_goes_on_while_a_job_is_open(lease: DeviceLease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    lease.release()
    assert messages() == [(lease.device.pk, lease.seq)]


def test_watch_wakes_an_expired_device_but_none_that_is_awake(lease: DeviceLease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    assert leases.watch() == 0
    expire(lease)
    assert leases.watch() == 1
    assert messages() == [(lease.device.pk, lease.seq)]


def test_watch_without_a_job_wakes_nobody(lease: DeviceLease) -> None:
    expire(lease)
    assert leases.watch() == 0


def test_recovery_frees_devices_and_wakes_them(lease: DeviceLease) -> None:
    services.start_job()
    OrmQ.objects.all().delete()
    leases.recover()
    assert messages() == [(lease.device.pk, lease.seq + 1)]
    assert leases.take(lease.device.pk, lease.seq + 1)


def test_recovery_frees_only_what_is_of_its_own_host() -> None:
    other = elsewhere(seq=5, lease_until=timezone.now())
    leases.recover()
    assert Device.objects.get(pk=other.pk).seq == 5


def test_every_device_is_woken_by_its_own_queue(settings: Any) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")
    leases.recover()
    other = elsewhere()
    services.start_job()
    assert messages() == [(device(index).pk, device(index).seq) for index in (0, 1)]
    assert messages("ffff") == [(other.pk, 0)]


def test_a_host_that_has_gone_gets_no_messages() -> None:
    elsewhere()
    Host.objects.filter(key="ffff").update(seen_at=timezone.now() - timedelta(minutes=1))
    services.start_job()
    assert messages("ffff") == []


def test_one_device_plans_or_completes_a_job() -> None:
    job, looks = services.start_job(), Looks()
    assert take_job(job, device(0), looks)
    assert take_job(job, elsewhere(), looks) is None


def test_a_job_that_its_holder_has_given_back_is_taken_by_the_next() -> None:
    job, looks = services.start_job(), Looks()
    lease = take_job(job, device(0), looks)
    assert lease
    lease.end()
    assert take_job(job, elsewhere(), looks)


def test_a_job_of_which_the_holder_has_died_is_taken_by_another() -> None:
    job, looks = services.start_job(), Looks(Seconds())
    dead = take_job(job, device(0), looks)
    assert dead
    assert [bool(take_job(job, elsewhere(index=n), looks)) for n in range(leases.LOOKS + 1)][-2:] == [False, True]
    with pytest.raises(LeaseLost):
        dead.renew()


def test_a_device_takes_a_job_again_that_it_holds_itself() -> None:
    job, looks = services.start_job(), Looks()
    first = take_job(job, device(0), looks)
    assert first
    assert take_job(job, device(0), looks)
    with pytest.raises(LeaseLost):
        first.renew()


# Completion


def test_who_has_lost_the_job_does_not_end_it(milvus: object, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job([])
    lease = take_job(job, device(0), Looks())
    assert lease
    # Telling Milvus took so long that a successor has taken over, and has found more to do.
    taken = partial(BatchJob.objects.filter(pk=job.pk).update, seq=F("seq") + 1, planned=False)
    monkeypatch.setattr(completion, "point_aliases", lambda *_: taken())
    with pytest.raises(LeaseLost):
        completion.complete(job, lease.renew)
    job.refresh_from_db()
    assert (job.status, job.planned) == ("initialized", False)


def test_who_loses_the_job_while_cosines_are_compared_stops(milvus: object, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job([])
    space, stored = job.progress.get().space, comparing.stored
    assert space
    for track in make_tracks(2):
        make_embedding(space, track)
    lease = take_job(job, device(0), Looks())
    assert lease

    def slowly_stored(*args: Any) -> Iterator[comparing.Block]:
        BatchJob.objects.filter(pk=job.pk).update(seq=F("seq") + 1)
        yield from stored(*args)

    monkeypatch.setattr(comparing, "stored", slowly_stored)
    with pytest.raises(LeaseLost):
        completion.complete(job, lease.renew)
    space.refresh_from_db()
    assert space.calibration is None


def test_a_device_that_loses_the_job_goes_on_with_what_it_holds(
    milvus: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, complete, times = make_job([]), completion.complete, count()

    def lose_it_once(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
        if next(times) == 0:
            BatchJob.objects.filter(pk=job.pk).update(seq=F("seq") + 1)
            raise_if_stopped()
        complete(job, raise_if_stopped)

    monkeypatch.setattr(completion, "complete", lose_it_once)
    assert work_on() == "idle"
    job.refresh_from_db()
    assert job.status == "completed"


@pytest.mark.django_db(transaction=True)
def test_of_two_devices_one_completes_the_job(milvus: object, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job([])
    devices = [device(index) for index in (0, 1)]
    complete, take = completion.complete, runner.take_job
    refused, completing = threading.Event(), []

    def completed(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
        completing.append(job.holder)
        assert refused.wait(60), "the other device has not tried"
        complete(job, raise_if_stopped)

    def taken(*arguments: Any) -> Lease | None:
        if (lease := take(*arguments)) is None:
            refused.set()
        return lease

    def run(device: Device) -> str:
        try:
            return run_device(device.pk, device.seq)
        finally:
            connections.close_all()

    monkeypatch.setattr(completion, "complete", completed)
    monkeypatch.setattr(runner, "take_job", taken)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(run, devices)) == ["idle", "idle"]
    job.refresh_from_db()
    assert (job.status, len(completing)) == ("completed", 1)
    assert job.events.filter(kind="ended").count() == 1
