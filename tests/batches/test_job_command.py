"""``manage.py job``: what it says of jobs, and that it is true."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command

from batches import services
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.terminal.jobs import state_text
from navembed_site.process.locks import hold
from tests.batches.rows import make_job, make_track, make_tracks, set_status

pytestmark = pytest.mark.django_db
Captured = pytest.CaptureFixture[str]
IDLE = " No worker runs on this machine; `serve` and `embed_library` start one."


def job_with_failures() -> BatchJob:
    """A job of three tracks that have all failed with two models, each for a reason of its own."""
    tracks = [make_track(f"t{number}", path=f"/music/[/x]{number}.flac") for number in range(3)]
    job = make_job(tracks, ("muq", "mert"))
    job.results.update(status="failed", error_class="AudioError")
    for result in job.results.all():
        result.error_message = f"{result.track_id} is damaged\x1b[2J"
        result.save()
    job.progress.update(failed=3)
    BatchJob.objects.filter(pk=job.pk).update(failed_tracks=3)
    return set_status(job, "completed_with_errors")


@pytest.mark.parametrize("width", ["80", "120"])
def test_list_has_a_line_for_each_job(capsys: Captured, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    pks = [set_status(services.start_job(), "failed").pk, job_with_failures().pk]
    call_command("job", "list")
    head, newest, oldest = capsys.readouterr().out.splitlines()
    assert [newest.split()[0], oldest.split()[0]] == [str(pk) for pk in reversed(pks)]
    assert max(map(len, (head, newest, oldest))) <= 80


def test_list_tells_what_a_job_waits_for(capsys: Captured) -> None:
    services.set_waiting(services.start_job(), "the music folder /m is away")
    call_command("job", "list")
    assert "the music folder /m is away" in capsys.readouterr().out


def test_newest_job_is_shown_in_full(capsys: Captured) -> None:
    job = services.start_job(JobRequest(["muq"], limit=5, clear_existing=True), started_by="anna")
    call_command("job", "show")
    shown = capsys.readouterr().out
    assert shown.startswith(f"Job {job.pk} (muq) is active")
    assert "Asked for by anna: everything anew, with muq, at most 5 tracks." in shown


def test_reasons_are_listed_by_track(capsys: Captured) -> None:
    job = job_with_failures()
    call_command("job", "show", str(job.pk), "--failed", "--limit", "2")
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [
        "/music/[/x]0.flac", "  muq mert: t0 is damaged [2J", "/music/[/x]1.flac", "  muq mert: t1 is damaged [2J",
    ]  # fmt: skip
    assert last == "… and 1 more tracks; --limit 3 shows all."


def test_reasons_as_json_are_whole(capsys: Captured) -> None:
    call_command("job", "show", str(job_with_failures().pk), "--failed", "--json")
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 6
    assert list(found[0]) == ["track", "path", "model", "error_class", "error_message"]


def test_what_was_not_heard_is_shown(capsys: Captured) -> None:
    job = make_job(make_tracks(2), ["muq", "mert"])
    job.results.filter(track="t001").update(status="succeeded", note="12 of 240 s could not be decoded")
    call_command("job", "show")
    assert "Of 1 embedded tracks not everything was heard as it is" in capsys.readouterr().out
    call_command("job", "show", "--notes")
    assert capsys.readouterr().out == "/music/t001.flac\n  muq mert: 12 of 240 s could not be decoded\n"
    call_command("job", "show", "--notes", "--json")
    assert [row["note"] for row in json.loads(capsys.readouterr().out)] == ["12 of 240 s could not be decoded"] * 2


def test_actions_tell_where_the_job_stands(capsys: Captured) -> None:
    job = services.start_job(JobRequest(["muq"]))
    call_command("job", "pause")
    services.set_paused(job)
    call_command("job", "pause")
    call_command("job", "resume", str(job.pk))
    set_status(job, "queued")
    call_command("job", "resume")
    assert [line.partition(") ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "pauses after the device batch in hand." + IDLE,
        "is paused.",
        "is active and about to go on." + IDLE,
        "is queued behind another job.",
    ]


def test_worker_that_runs_is_not_missed() -> None:
    with hold("worker"):
        assert state_text(services.start_job(JobRequest(["muq"]))).endswith("is active and about to go on.")


@pytest.mark.parametrize("status", BatchJob.Status.values)
def test_every_state_has_a_sentence(status: str) -> None:
    assert state_text(set_status(services.start_job(JobRequest(["muq"])), status)).startswith("Job ")


def test_job_that_left_a_model_out_is_not_said_to_have_failed_tracks() -> None:
    job = set_status(services.start_job(JobRequest(["muq", "mert"])), "completed_with_errors")
    job.message = "mert is left out."
    assert state_text(job) == f"Job {job.pk} (muq, mert) is completed, with errors: mert is left out."


def test_command_says_why_it_cannot() -> None:
    with pytest.raises(CommandError, match="no job yet"):
        call_command("job", "pause")
    set_status(services.start_job(), "completed")
    with pytest.raises(CommandError, match="is completed"):
        call_command("job", "pause")


def test_option_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(CommandError, match="--failed goes with show"):
        call_command("job", "list", "--failed")
    with pytest.raises(CommandError, match="'0' is not a whole number from 1 up"):
        call_command("job", "list", "--limit", "0")
