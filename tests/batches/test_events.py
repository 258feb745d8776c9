"""A job's log: who did what to it by which way, what it waited for, what died."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from batches import events, schedule, services
from batches.engine import chunks, leases
from batches.events import Kind, Who, text_of
from batches.models import BatchJob, Device
from batches.requests import JobRequest
from tests.batches.conftest import Music, RunToEnd
from tests.batches.rows import elsewhere, make_job, make_tracks, set_status, take_device

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ANNA = Who("anna", "console")


def told(job: BatchJob) -> list[str]:
    return [text_of(event) for event in job.events.all()]


def kinds(job: BatchJob) -> list[str]:
    return list(job.events.values_list("kind", flat=True))


def test_a_job_remembers_who_did_what_by_which_way() -> None:
    job = services.start_job(JobRequest(["muq"], limit=5), started_by="my-script", via="api")
    services.pause_job(job, who=ANNA)
    services.set_paused(job)
    services.resume_job(job, who=Who(via="command"))
    services.cancel_job(job, who=Who(via="navidrome"))
    services.set_cancelled(job)
    assert told(job) == [
        "Asked for by my-script over the API: what is missing or has changed, with muq, at most 5 tracks.",
        "Asked to pause by anna in the console.",
        "Paused.",
        "Resumed from the command line.",
        "Asked to cancel by Navidrome.",
        "Ended: cancelled.",
    ]


def test_what_changes_nothing_is_not_told() -> None:
    job = services.start_job(JobRequest(["muq"]))
    for _ in range(2):
        services.cancel_job(job, who=ANNA)
        services.resume_job(set_status(job, "running"), who=ANNA)
        set_status(job, "cancelling")
    assert kinds(job) == ["asked", "cancelling"]


def test_waiting_is_one_row_with_its_length() -> None:
    job = services.start_job(JobRequest(["muq"]))
    for _ in range(5):
        services.set_waiting(job, "/music is away")
    job.events.filter(kind=Kind.WAITING).update(at=timezone.now() - timedelta(minutes=3))
    services.set_running(job)
    services.set_running(job)
    assert told(job)[1:] == ["Waited: /music is away.", "The first track was begun."]
    waited = job.events.get(kind=Kind.WAITING)
    assert waited.seconds == pytest.approx(180, abs=60)


def test_the_schedule_says_why_it_pauses() -> None:
    job = services.start_job(JobRequest(["muq"]), started_by=schedule.STARTED_BY, via="schedule")
    schedule._steer(may_work=False)
    assert told(job)[1:] == ["Asked to pause by the schedule: outside of the quiet hours."]


def test_what_repeats_is_counted_and_the_log_stays_short() -> None:
    job = services.start_job(JobRequest(["muq"]))
    for _ in range(7):
        events.note(job, Kind.EMBEDDER_DIED, "out of memory")
    assert told(job)[1:] == ["The embedder was started again, 7 times: out of memory."]
    for number in range(events.MOST + 10):
        events.note(job, Kind.WAITING, str(number))
    assert job.events.count() == events.MOST + 1
    assert kinds(job)[0] == Kind.ASKED


def test_a_worker_that_was_killed_is_told_once_and_one_that_was_stopped_is_not() -> None:
    job, lease = make_job(make_tracks(1)), take_device()
    leases.recover()
    leases.recover()
    assert kinds(job) == ["asked", "worker died"]
    assert lease.device.host.name in told(job)[1]


def test_a_device_that_is_gone_is_told() -> None:
    job, gone = make_job(make_tracks(1)), elsewhere()
    job.results.update(status="running", device=gone, attempts=1)
    Device.objects.filter(pk=gone.pk).update(lease_until=None)
    leases.free_abandoned(job, leases.Looks())
    assert kinds(job) == ["asked", "device lost"]


def test_a_chunk_on_which_the_embedder_dies_is_told() -> None:
    job, lease = make_job(make_tracks(2)), take_device()
    chunk = chunks.claim(job, lease)
    assert chunk
    chunks.blame(job, lease, chunk, "killed the embedder: out of memory")
    assert told(job)[1:] == ["The embedder was started again: a track in hand killed the embedder: out of memory."]


def test_a_model_that_is_left_out_is_told() -> None:
    job = set_status(make_job(make_tracks(1), ["muq", "mert"]), "running")
    services.leave_out(job, "mert", "its weights are damaged")
    assert told(job)[1:] == ["Goes on without a model: mert: its weights are damaged."]


def test_a_whole_job_tells_its_course(embedder: object, milvus: object, four: Music, run_to_end: RunToEnd) -> None:
    run_to_end(services.start_job(JobRequest(["latent"])))
    job = run_to_end(services.start_job(JobRequest(["latent"], clear_existing=True)))
    assert kinds(job) == ["asked", "started", "switched", "ended"]
    assert told(job)[2] == "Search uses the new vectors: latent."
    assert min(job.embedder_seconds, job.database_seconds, job.index_seconds) > 0
    assert min(job.decode_seconds, job.device_seconds) > 0


def test_the_command_line_is_named_and_shows_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    job = services.start_job(JobRequest(["muq"]))
    call_command("job", "pause")
    assert told(job)[1:] == ["Asked to pause from the command line."]
    call_command("job", "show")
    assert capsys.readouterr().out.splitlines()[-1].endswith(" Asked to pause from the command line.")


def test_events_over_http(admin_client: Client) -> None:
    job = services.start_job(JobRequest(["muq"]))
    admin_client.post(f"/api/v1/batches/{job.pk}/cancel")
    [_, event] = admin_client.get(f"/api/v1/batches/{job.pk}/events").json()["results"]
    assert (event["kind"], event["by"], event["via"]) == ("cancelling", "admin", "api")
    assert admin_client.get("/api/v1/batches/999/events").status_code == 404
