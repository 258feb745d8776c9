"""Every transition of a job, from each status that it may start in and from those that it may not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django_q.models import OrmQ

from batches import services
from batches.engine import chunks
from batches.engine.leases import DeviceLease
from batches.models import BatchJob
from batches.requests import JobRequest, RequestRefused
from batches.services import JobConflict
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import EmbeddingSpace
from tests.batches.rows import device, failure, make_job, make_track, make_tracks, progress_of, set_status, success

pytestmark = [pytest.mark.django_db, pytest.mark.database]

Status = BatchJob.Status
FINISHED = (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.CANCELLED, Status.FAILED)


def in_status(status: str) -> BatchJob:
    return set_status(make_job(make_tracks(1)), status)


def test_start_commits_an_initialized_job_with_a_row_per_model_and_a_message() -> None:
    there = device()
    job = services.start_job(started_by="somebody")
    assert (job.status, job.started_by) == (Status.INITIALIZED, "somebody")
    assert set(job.progress.values_list("model", flat=True)) == set(MODEL_KEYS)
    [message] = OrmQ.objects.all()
    assert message.task["args"] == (there.pk, there.seq)


def test_no_models_means_all() -> None:
    assert services.start_job(JobRequest([])).model_keys == list(MODEL_KEYS)


def test_models_are_kept_in_the_order_of_the_registry_and_once() -> None:
    assert services.start_job(JobRequest(["latent", "muq", "latent"])).model_keys == ["muq", "latent"]


def test_a_job_tells_what_was_asked_for() -> None:
    request = JobRequest(["mert"], limit=5, path_prefix="/m", library_id=0, only_track="t", retry_bad_files=True)
    assert JobRequest.of(request.job()) == request


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"models": ["muq", "vggish"]}, "unknown model 'vggish'"),
        ({"limit": 0}, "from 1 to"),
        ({"limit": 2**31}, "from 1 to"),
        ({"library_id": -1}, "from 0 to"),
        ({"library_id": 2**31}, "from 0 to"),
        ({"path_prefix": "/" * 4097}, "at most 4096"),
        ({"path_prefix": "/a\0"}, "none is NUL"),
    ],
)
def test_what_no_job_can_do_is_refused_by_its_name(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestRefused, match=told) as caught:
        JobRequest(**wrong)
    assert caught.value.field == next(iter(wrong))


@pytest.mark.parametrize("status", BatchJob.OPEN)
def test_second_start_names_the_first_job(status: str) -> None:
    first = in_status(status)
    with pytest.raises(JobConflict, match=f"job {first.pk} is already running") as conflict:
        services.start_job()
    assert conflict.value.job == first
    assert BatchJob.objects.count() == 1


@pytest.mark.parametrize("status", FINISHED)
def test_start_after_a_finished_job(status: str) -> None:
    in_status(status)
    assert services.start_job().is_open


@pytest.mark.django_db(transaction=True)
def test_of_starts_at_the_same_moment_one_wins() -> None:
    ended = at_once(services.start_job, 4)
    [started] = [job for job in ended if isinstance(job, BatchJob)]
    assert BatchJob.objects.get() == started
    assert [type(error) for error in ended if error is not started] == [JobConflict] * 3


@pytest.mark.django_db(transaction=True)
def test_of_cancels_at_the_same_moment_none_fails() -> None:
    job = services.start_job()
    assert at_once(lambda: services.cancel_job(BatchJob.objects.get()), 3) == [None] * 3
    job.refresh_from_db()
    assert job.status == Status.CANCELLING


def at_once(call: Callable[[], Any], count: int) -> list[Any]:
    """What ``count`` threads got from calling at the same moment: results or exceptions."""
    barrier, ended = threading.Barrier(count), []

    def run() -> None:
        try:
            barrier.wait()
            ended.append(call())
        except Exception as error:
            ended.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


@pytest.mark.parametrize("status", BatchJob.OPEN)
def test_open_job_can_be_cancelled_and_cancelled_again(status: str) -> None:
    job = in_status(status)
    services.cancel_job(job)
    services.cancel_job(job)
    in_hand = status not in (Status.QUEUED, Status.PAUSED)
    assert job.status == (Status.CANCELLING if in_hand else Status.CANCELLED)


def test_cancel_wakes_a_sleeping_device_once() -> None:
    device()
    job = in_status(Status.WAITING)
    OrmQ.objects.all().delete()
    services.cancel_job(job)
    services.cancel_job(job)
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize("status", [status for status in FINISHED if status != Status.CANCELLED])
def test_finished_job_cannot_be_cancelled(status: str) -> None:
    with pytest.raises(JobConflict, match=status):
        services.cancel_job(in_status(status))


@pytest.mark.parametrize("status", [Status.CANCELLED, Status.FAILED])
def test_resumed_job_goes_on_where_it_was(status: str) -> None:
    device()
    job = in_status(status)
    OrmQ.objects.all().delete()
    services.resume_job(job)
    assert (job.status, job.message, job.finished_at, job.planned) == (Status.INITIALIZED, "", None, True)
    assert OrmQ.objects.count() == 1


@pytest.mark.parametrize("status", [*BatchJob.ADVANCING, Status.QUEUED])
def test_resuming_a_job_that_goes_on_changes_nothing(status: str) -> None:
    job = in_status(status)
    services.resume_job(job)
    assert job.status == status


@pytest.mark.parametrize("status", [Status.CANCELLING, Status.COMPLETED, Status.COMPLETED_WITH_ERRORS])
def test_other_jobs_cannot_be_resumed(status: str) -> None:
    with pytest.raises(JobConflict, match=status):
        services.resume_job(in_status(status))


def test_resumed_job_waits_in_line_behind_another() -> None:
    job = set_status(make_job(make_tracks(1)), Status.CANCELLED)
    services.start_job()
    services.resume_job(job)
    assert (job.status, job.finished_at) == (Status.QUEUED, None)


def test_job_whose_build_was_dropped_cannot_be_resumed() -> None:
    job = in_status(Status.CANCELLED)
    EmbeddingSpace.objects.all().delete()
    with pytest.raises(JobConflict, match="not there any more"):
        services.resume_job(job)


@pytest.mark.parametrize("status", BatchJob.ADVANCING)
def test_pause_is_asked_for_once_and_resumed_at_any_moment(status: str) -> None:
    job = in_status(status)
    services.pause_job(job, "outside quiet hours")
    services.pause_job(job, "another reason")
    assert (job.status, job.message) == (Status.PAUSING, "outside quiet hours")
    services.set_paused(job)
    services.pause_job(job)  # a human's, which the schedule does not end
    assert (job.status, job.message) == (Status.PAUSED, "")
    services.resume_job(job)
    assert (job.status, job.message) == (Status.INITIALIZED, "")


@pytest.mark.parametrize("status", [*FINISHED, Status.QUEUED, Status.CANCELLING])
def test_only_a_running_job_can_pause(status: str) -> None:
    with pytest.raises(JobConflict, match=status):
        services.pause_job(in_status(status))


def test_start_in_line_waits_until_the_other_has_ended() -> None:
    first, second, third = (services.start_job(JobRequest(["muq"]), queue=True) for _ in range(3))
    assert [job.status for job in (first, second, third)] == [Status.INITIALIZED, Status.QUEUED, Status.QUEUED]
    services.set_completed(first)
    second.refresh_from_db()
    third.refresh_from_db()
    assert (second.status, third.status) == (Status.INITIALIZED, Status.QUEUED)


def test_paused_job_keeps_its_turn() -> None:
    first, second = services.start_job(JobRequest(["muq"])), services.start_job(JobRequest(["muq"]), queue=True)
    services.pause_job(first)
    services.set_paused(first)
    services.watch()
    second.refresh_from_db()
    assert second.status == Status.QUEUED


def test_watchdog_gives_the_turn_to_a_job_that_was_forgotten_in_line() -> None:
    job = in_status(Status.QUEUED)
    services.watch()
    job.refresh_from_db()
    assert job.status == Status.INITIALIZED


def test_cancel_of_all_leaves_nobody_to_follow() -> None:
    jobs = [services.start_job(JobRequest(["muq"]), queue=True) for _ in range(3)]
    assert services.cancel_all() == jobs[0]
    assert sorted(BatchJob.objects.values_list("status", flat=True)) == ["cancelled", "cancelled", "cancelling"]


@pytest.mark.django_db(transaction=True)
def test_of_starts_in_line_at_the_same_moment_one_has_the_turn() -> None:
    at_once(lambda: services.start_job(JobRequest(["muq"]), queue=True), 4)
    statuses = sorted(BatchJob.objects.values_list("status", flat=True))
    assert statuses == [Status.INITIALIZED, Status.QUEUED, Status.QUEUED, Status.QUEUED]


@pytest.mark.parametrize(
    ("change", "allowed", "end"),
    [
        (services.set_running, {Status.INITIALIZED, Status.WAITING}, Status.RUNNING),
        (lambda job: services.set_waiting(job, "x"), {*BatchJob.ADVANCING}, Status.WAITING),
        (services.set_paused, {Status.PAUSING}, Status.PAUSED),
        (services.set_cancelled, {Status.CANCELLING}, Status.CANCELLED),
        (services.set_completed, {*BatchJob.ACTIVE}, Status.COMPLETED),
        (lambda job: services.set_failed(job, "x"), {*BatchJob.ACTIVE}, Status.FAILED),
    ],
    ids=["running", "waiting", "paused", "cancelled", "completed", "failed"],
)
@pytest.mark.parametrize("status", Status)
def test_device_changes_a_job_only_from_expected_statuses(
    change: Callable[[BatchJob], bool], allowed: set[str], end: str, status: str
) -> None:
    job = in_status(status)
    assert change(job) is (status in allowed)
    assert job.status == (end if status in allowed else status)


def finished(lease: DeviceLease, models: tuple[str, ...], *outcomes: Any) -> BatchJob:
    """A job over three tracks that has ended with these outcomes."""
    job = make_job([make_track(name) for name in "abc"], models)
    chunk = chunks.claim(job, lease)
    assert chunk
    tracks = {claimed.track.id: claimed.track for claimed in chunk.tracks}
    chunks.commit(job, lease, chunk, [make(tracks[name], *keys) for make, name, *keys in outcomes], 1.0)
    return set_status(job, Status.CANCELLED if chunks.is_left(job) else Status.COMPLETED_WITH_ERRORS)


def test_retry_puts_failed_results_back_and_takes_them_out_of_the_counters(lease: DeviceLease) -> None:
    job = finished(lease, ("muq",), (success, "a"), (failure, "b"), (failure, "c"))
    assert (job.failed_tracks, progress_of(job).audio_seconds_done) == (2, 6.0)
    assert services.retry_failed(job) == 2
    assert (job.status, job.processed_tracks, job.failed_tracks) == (Status.INITIALIZED, 1, 0)
    progress = progress_of(job)
    assert (progress.succeeded, progress.failed, progress.audio_seconds_done) == (1, 0, 2.0)
    rows = job.results.filter(status="pending").values_list("attempts", "deaths", "not_before", "finished_at")
    assert list(rows) == [(0, 0, None, None)] * 2


def test_retry_of_one_model_counts_a_track_that_failed_for_two_once(lease: DeviceLease) -> None:
    both = ("muq", "mert")
    job = finished(lease, both, (failure, "a", *both), (success, "b", *both), (success, "c", *both))
    assert services.retry_failed(job) == 2
    assert (job.processed_tracks, job.failed_tracks) == (2, 0)


def test_retry_after_a_cancel_keeps_counters_right_for_a_track_with_work_left(lease: DeviceLease) -> None:
    job = finished(lease, ("muq", "mert"), (failure, "a", "muq"), (failure, "b", "muq", "mert"))
    assert job.failed_tracks == 1  # the other one has not been tried with every model
    services.retry_failed(job)
    assert (job.failed_tracks, progress_of(job).failed) == (0, 0)


def test_retry_without_failures_is_a_conflict_that_changes_nothing() -> None:
    job = in_status(Status.CANCELLED)
    with pytest.raises(JobConflict, match="no failed tracks"):
        services.retry_failed(job)
    job.refresh_from_db()
    assert job.status == Status.CANCELLED


@pytest.mark.parametrize("status", [*BatchJob.OPEN, Status.COMPLETED])
def test_retry_is_for_jobs_that_ended_without_full_success(status: str) -> None:
    with pytest.raises(JobConflict, match=status):
        services.retry_failed(in_status(status))
