"""Counts, rates and times shown to people; and what is kept for a time only."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone
from django.utils.module_loading import import_string
from django_q.models import OrmQ, Schedule

from batches import housekeeping, services, tasks
from batches.engine.leases import DeviceLease
from batches.models import BatchJob, TrackResult
from batches.selectors.library import library_status
from batches.selectors.progress import contract_progress, snapshot
from batches.terminal import follow as follow_module
from batches.terminal.follow import follow
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.models import BadFile, Track
from tests.batches.rows import make_embedding, make_job, make_space, make_track, make_tracks, set_status

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def muq_figures() -> dict[str, Any]:
    figures: dict[str, Any] = library_status()["models"]["muq"]
    return figures


# Time left


def test_time_left_adds_what_remains_of_each_model_at_its_own_rate() -> None:
    job = make_job(make_tracks(2), ("muq", "mert"))
    job.progress.filter(model="muq").update(audio_seconds_total=100, audio_seconds_done=40, rate=10)
    job.progress.filter(model="mert").update(audio_seconds_total=100, audio_seconds_done=0, rate=2)
    assert snapshot(job).seconds_left == pytest.approx(6 + 50)


def test_speed_is_that_of_audio_through_all_models() -> None:
    job = make_job(make_tracks(2), ("muq", "mert"))
    assert snapshot(job).speed is None
    job.progress.filter(model="muq").update(rate=30)
    job.progress.filter(model="mert").update(rate=6)
    assert snapshot(job).speed == pytest.approx(5)  # a second of audio takes 1/30 and 1/6 of a second


def test_time_left_is_unknown_while_a_model_has_no_rate() -> None:
    job = make_job(make_tracks(2), ("muq", "mert"))
    job.progress.filter(model="muq").update(rate=10)
    assert snapshot(job).seconds_left is None


def test_model_without_work_needs_no_rate() -> None:
    job = make_job(make_tracks(1), ("muq", "mert"))
    job.progress.filter(model="muq").update(audio_seconds_total=100, rate=10)
    job.progress.filter(model="mert").update(audio_seconds_total=0)
    assert snapshot(job).seconds_left == pytest.approx(10)


def test_nothing_is_promised_before_the_plan_stands() -> None:
    job = services.start_job()
    assert snapshot(job).seconds_left is None
    assert contract_progress(job)["estimated_completion"] is None


# The library's figures


def test_embedded_failed_and_missing_add_up_to_playable() -> None:
    space = make_space()
    tracks = make_tracks(6)
    for track in tracks[:3]:
        make_embedding(space, track, index_state="indexed" if track.id != "t000" else "pending")
    job = make_job(tracks[3:])
    job.results.filter(track=tracks[3]).update(status="failed")
    set_status(job, "cancelled")
    assert muq_figures() == {"embedded": 3, "missing": 2, "failed": 1, "ignored": 0, "orphaned": 0, "indexed": 2}


def test_vectors_of_tracks_that_are_gone_are_orphaned() -> None:
    space = make_space()
    for track in make_tracks(3):
        make_embedding(space, track)
    Track.objects.filter(pk="t000").update(playable=False)
    Track.objects.filter(pk="t001").delete()
    status = library_status()
    assert (status["tracks"], status["playable"]) == (2, 1)
    assert muq_figures() == {"embedded": 1, "missing": 0, "failed": 0, "ignored": 0, "orphaned": 2, "indexed": 0}


def test_what_is_acknowledged_is_not_counted_as_failed() -> None:
    tracks = make_tracks(5)
    make_space()
    make_job(tracks[:3]).results.update(status="failed")
    ignored_by_track = {tracks[0]: False, tracks[1]: True, tracks[3]: False}  # of the last one no job is remembered
    for track, ignored in ignored_by_track.items():
        BadFile.objects.create(track=track, model="muq", size=track.size, mtime=track.mtime, ignored=ignored)
    figures = muq_figures()
    assert (figures["failed"], figures["ignored"], figures["missing"]) == (3, 1, 1)


def test_failed_track_that_kept_its_old_vector_is_embedded() -> None:
    [track] = make_tracks(1)
    make_embedding(make_space(), track)
    make_job([track]).results.update(status="failed")
    assert (muq_figures()["embedded"], muq_figures()["failed"]) == (1, 0)


def test_track_that_failed_in_two_jobs_is_one_failed_track() -> None:
    [track] = make_tracks(1)
    for _ in range(2):
        job = make_job([track])
        job.results.update(status="failed")
        set_status(job, "completed_with_errors")
    assert muq_figures()["failed"] == 1


def test_only_the_live_space_counts() -> None:
    [track] = make_tracks(1)
    make_embedding(make_space(status="kept"), track)
    make_embedding(make_space(fingerprint="g", status="building"), track)
    assert muq_figures()["embedded"] == 0


def test_status_before_anything_has_happened() -> None:
    status = library_status()
    assert (status["tracks"], status["playable"], status["last_job"]) == (0, 0, None)


def test_status_names_the_newest_job() -> None:
    set_status(services.start_job(), "failed")
    newest = services.start_job()
    last = library_status()["last_job"]
    assert (last["id"], last["status"]) == (newest.pk, "initialized")


def test_status_fits_a_terminal_and_tells_the_gone_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"embedded": 99_999, "orphaned": 1, "indexed": 100_000, "in_milvus": 100_000, "consistent": True}
    status = {"tracks": 65, "playable": 33, "bad_files": {"files": 0, "ignored": 0}, "notice": "", "last_job": None}
    status["models"] = dict.fromkeys(MODEL_KEYS, counts)
    monkeypatch.setattr("batches.management.commands.library_status.library_status", lambda **_: status)
    call_command("library_status")
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.strip() == "33 tracks can be played, 32 more are not there now"
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert [line.split()[0] for line in lines[1:-1]] == list(counts)


# Following a job


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def ended() -> BatchJob:
    job = make_job(make_tracks(2))
    job.progress.update(succeeded=1, failed=1)
    BatchJob.objects.update(processed_tracks=1, failed_tracks=1)
    return set_status(job, "completed_with_errors")


def test_plain_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    follow(ended(), out)
    assert out.getvalue() == "completed_with_errors: 100.0 % 2/2 tracks, 1 failed\n"


@pytest.mark.parametrize("width", ["80", "120"])
@pytest.mark.parametrize("title", ["a" * 300, "長い題名" * 90, "[/nope] \x1b[2J\n:smile:"])
def test_no_title_hides_how_far_a_job_is(title: str, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(make_tracks(4))
    job.progress.update(succeeded=1, failed=1, rate=2, audio_seconds_total=8, audio_seconds_done=4)
    BatchJob.objects.update(processed_tracks=1, failed_tracks=1, current_track=f"[muq] {title}")
    monkeypatch.setenv("COLUMNS", width)
    monkeypatch.setattr(follow_module.time, "sleep", lambda _: set_status(job, "cancelled"))
    out = Terminal()
    follow(job, out)
    shown = out.getvalue()
    assert all(
        part in shown for part in ("━", "50.0 %", "2/4 tracks, 1 failed", "about 0:00:02 left", f"[muq] {title[:2]}")
    )
    assert "\x1b[2J" not in shown


def test_a_terminal_shows_which_model_hears_which_track(monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(make_tracks(1))
    BatchJob.objects.update(current_track="[muq] A - B")
    monkeypatch.setattr(follow_module.time, "sleep", lambda _: set_status(job, "completed"))
    monkeypatch.setenv("COLUMNS", "200")
    out = Terminal()
    follow(job, out)
    assert "[muq] A - B" in out.getvalue()


def test_devices_are_watched_while_a_job_is_followed(lease: DeviceLease, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "POLL_SECONDS", 0)
    monkeypatch.setattr(follow_module, "WATCH_SECONDS", 0)
    looks = follow_module._looks(services.start_job())
    lease.release()
    OrmQ.objects.all().delete()
    next(looks)
    next(looks)
    assert OrmQ.objects.count() == 1


# Housekeeping


def results_of_a_job_that_ended(days_ago: int) -> BatchJob:
    job = make_job([make_track(f"{days_ago}-{name}") for name in "abc"])
    job.results.update(status="succeeded")
    job.results.filter(track=f"{days_ago}-a").update(status="failed")
    set_status(job, "completed_with_errors")
    BatchJob.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=days_ago))
    return job


def test_successes_go_after_30_days_and_failures_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "SLICE", 1)
    old, new = results_of_a_job_that_ended(31), results_of_a_job_that_ended(29)
    assert tasks.keep_house() == 2
    assert list(old.results.values_list("status", flat=True)) == ["failed"]
    assert new.results.count() == 3


def test_results_of_an_open_job_stay() -> None:
    make_job(make_tracks(2)).results.update(status="succeeded")
    assert tasks.keep_house() == 0
    assert TrackResult.objects.count() == 2


def test_restart_leaves_the_time_of_a_schedule_alone() -> None:
    tasks.ensure_schedules()
    due = timezone.now() + timedelta(seconds=5)
    Schedule.objects.filter(name="housekeeping").update(next_run=due, func="old.name")
    tasks.ensure_schedules()
    schedule = Schedule.objects.get(name="housekeeping")
    assert (schedule.next_run, schedule.func) == (due, "batches.tasks.keep_house")


def test_scheduled_tasks_exist() -> None:
    assert tasks.watch_devices() == 0
    assert all(callable(import_string(function)) for _, function, _ in tasks.SCHEDULES)
