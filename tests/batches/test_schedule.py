"""Jobs that start by themselves: when, which, and when not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from batches import schedule, services
from batches.models import BatchJob
from batches.requests import JobRequest
from tests.batches.rows import set_status
from tests.navidrome_db import make_navidrome

pytestmark = [pytest.mark.django_db, pytest.mark.database]

Status = BatchJob.Status
BERLIN = ZoneInfo("Europe/Berlin")
FINISHED = (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS, Status.CANCELLED, Status.FAILED)


def at(clock: str, day: int = 5, month: int = 1, fold: int = 0) -> datetime:
    """A moment of 2026 by Berlin's clocks."""
    return datetime.combine(date(2026, month, day), time.fromisoformat(clock), BERLIN).replace(fold=fold)


@pytest.fixture(autouse=True)
def berlin(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """In Berlin, each night at three, with the weights of one model."""
    settings.SCHEDULE, settings.QUIET_HOURS = time(3), None
    monkeypatch.setattr(schedule, "problems_with", lambda _: {"mert": "is not here", "latent": "is not here"})
    with timezone.override(BERLIN):
        yield


def run(now: datetime) -> BatchJob | None:
    """Runs the schedule; returns the job that it started, created at ``now``."""
    before = BatchJob.objects.count()
    schedule.run(now)
    if BatchJob.objects.count() == before:
        return None
    job = BatchJob.objects.latest("pk")
    BatchJob.objects.filter(pk=job.pk).update(created_at=now)
    return job


def served(now: datetime, status: str = Status.COMPLETED) -> BatchJob:
    """A job of the schedule that was started at ``now`` and has ended."""
    job = run(now)
    assert job
    return set_status(job, status)


def test_off_starts_nothing(settings: Any) -> None:
    settings.SCHEDULE = "off"
    assert run(at("03:00")) is None


def test_job_of_the_night_is_incremental_for_the_models_that_are_here() -> None:
    job = run(at("03:00"))
    assert job
    assert (job.started_by, job.clear_existing, job.is_restricted) == ("schedule", False, False)
    assert job.model_keys == ["muq"]


def test_nothing_starts_before_the_time() -> None:
    served(at("03:00", day=4))
    assert run(at("02:59")) is None
    assert run(at("03:00"))


@pytest.mark.parametrize("status", FINISHED)
def test_a_night_has_one_job_however_it_ended(status: str) -> None:
    served(at("03:00"), status)
    assert run(at("03:01")) is None
    assert run(at("02:59", day=6)) is None
    assert run(at("03:00", day=6))


def test_job_of_somebody_else_is_not_the_nights() -> None:
    set_status(services.start_job(JobRequest(["muq"]), started_by="anna"), Status.COMPLETED)
    BatchJob.objects.update(created_at=at("03:00"))
    assert run(at("03:01"))


@pytest.mark.parametrize("now", [at("12:00"), at("02:00", day=6)])
def test_machine_that_was_off_catches_up(now: datetime) -> None:
    served(at("03:00", day=4))
    assert run(now)


@pytest.mark.parametrize("status", BatchJob.OPEN)
def test_nothing_starts_beside_an_unfinished_job(status: str) -> None:
    job = services.start_job(JobRequest(["muq"]))
    set_status(job, status)
    assert run(at("03:00")) is None
    set_status(job, Status.COMPLETED)
    assert run(at("03:05"))


def test_nothing_starts_when_no_weights_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "problems_with", lambda models: dict.fromkeys(models, "is not here"))
    assert run(at("03:00")) is None


@pytest.mark.parametrize(("month", "day"), [(3, 29), (10, 25)], ids=["spring", "autumn"])
def test_night_in_which_the_clocks_change_has_one_job(settings: Any, month: int, day: int) -> None:
    settings.SCHEDULE = time(2, 30)
    served(at("02:30", day=day - 1, month=month))
    minutes = (at("00:00", day, month).astimezone(UTC) + timedelta(minutes=n) for n in range(0, 60 * 24, 10))
    jobs = [set_status(job, Status.COMPLETED) for now in minutes if (job := run(now))]
    assert len(jobs) == 1


@pytest.mark.parametrize(
    ("hours", "inside", "outside"),
    [
        ((time(22), time(7)), ["22:00", "23:59", "00:00", "06:59"], ["07:00", "21:59", "12:00"]),
        ((time(1), time(5)), ["01:00", "04:59"], ["00:59", "05:00", "23:00"]),
    ],
)
def test_job_begins_within_quiet_hours_only(
    settings: Any, hours: tuple[time, time], inside: list[str], outside: list[str]
) -> None:
    settings.QUIET_HOURS = hours
    for clock in outside:
        assert run(at(clock)) is None, clock
    for clock in inside:
        assert schedule._is_within(hours, time.fromisoformat(clock)), clock


def test_late_job_waits_for_the_quiet_hours(settings: Any) -> None:
    settings.QUIET_HOURS = (time(22), time(2))
    assert run(at("21:59")) is None
    assert run(at("22:00"))


@pytest.fixture
def working(settings: Any) -> BatchJob:
    """A job of the schedule that runs until seven."""
    settings.QUIET_HOURS = (time(22), time(7))
    job = run(at("03:00"))
    assert job
    return job


def looked(job: BatchJob, now: datetime) -> str:
    """The job's status after the schedule has looked."""
    schedule.run(now)
    job.refresh_from_db()
    return job.status


def test_job_pauses_at_the_end_of_the_quiet_hours_and_goes_on_at_their_beginning(working: BatchJob) -> None:
    assert looked(working, at("06:59")) == Status.INITIALIZED
    assert looked(working, at("07:00")) == Status.PAUSING
    services.set_paused(working)
    assert looked(working, at("21:59")) == Status.PAUSED
    assert working.message == schedule.OUTSIDE
    assert looked(working, at("22:00")) == Status.INITIALIZED


def test_humans_pause_lasts(working: BatchJob) -> None:
    services.pause_job(working)
    services.set_paused(working)
    assert looked(working, at("04:00")) == looked(working, at("12:00")) == looked(working, at("23:00")) == Status.PAUSED


def test_human_may_make_the_schedules_pause_last(working: BatchJob) -> None:
    looked(working, at("07:00"))
    services.set_paused(working)
    services.pause_job(working)
    assert looked(working, at("23:00")) == Status.PAUSED


def test_job_of_somebody_else_works_by_day(settings: Any) -> None:
    settings.QUIET_HOURS = (time(22), time(7))
    job = services.start_job(JobRequest(["muq"]), started_by="anna")
    assert looked(job, at("12:00")) == Status.INITIALIZED


def test_paused_job_goes_on_when_there_are_no_quiet_hours_any_more(working: BatchJob, settings: Any) -> None:
    looked(working, at("07:00"))
    services.set_paused(working)
    settings.SCHEDULE, settings.QUIET_HOURS = "off", None
    assert looked(working, at("12:00")) == Status.INITIALIZED


class Navidrome:
    """A database whose scans the test makes up."""

    def __init__(self, path: Path) -> None:
        self.path = make_navidrome(path, journal="delete")

    def set(self, **columns: str) -> None:
        assignments = ", ".join(f"{column} = ?" for column in columns)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(f"UPDATE library SET {assignments}", tuple(columns.values()))

    def has_scanned(self, end: datetime) -> None:
        self.set(last_scan_at=end.isoformat(" "), last_scan_started_at="0001-01-01 00:00:00+00:00")


@pytest.fixture
def navidrome(settings: Any, tmp_path: Path) -> Navidrome:
    made = Navidrome(tmp_path / "navidrome.db")
    settings.SCHEDULE, settings.LIBRARY, settings.NAVIDROME_DB_PATH = "scan", "navidrome", made.path
    return made


def test_each_finished_scan_has_one_job(navidrome: Navidrome) -> None:
    assert run(at("03:00")) is None
    navidrome.has_scanned(at("10:00"))
    served(at("10:01"))
    assert run(at("10:02")) is None
    navidrome.has_scanned(at("11:00"))
    assert run(at("11:01"))


def test_scan_in_progress_is_waited_for(navidrome: Navidrome) -> None:
    navidrome.has_scanned(at("10:00"))
    navidrome.set(last_scan_started_at=at("10:30").isoformat(" "))
    assert run(at("10:31")) is None
    navidrome.has_scanned(at("10:40"))
    assert run(at("10:41"))


def test_scans_by_day_are_served_once_in_the_quiet_hours(navidrome: Navidrome, settings: Any) -> None:
    settings.QUIET_HOURS = (time(22), time(7))
    for hour in ("10:00", "12:00"):
        navidrome.has_scanned(at(hour))
        assert run(at(hour) + timedelta(minutes=1)) is None
    served(at("22:00"))
    assert run(at("22:01")) is None


def test_unreadable_navidrome_starts_nothing(navidrome: Navidrome) -> None:
    navidrome.path.unlink()
    assert schedule.run(at("10:00")) == "nothing to do"


def test_clock_that_is_set_back_starts_no_second_job_and_keeps_no_night_free() -> None:
    served(at("03:00", day=8))
    assert served(at("12:00", day=5))
    assert run(at("12:01", day=5)) is None
    assert run(at("03:00", day=6))


def test_scan_that_ended_before_the_clock_was_set_back_starts_nothing(settings: Any, tmp_path: Path) -> None:
    settings.SCHEDULE, settings.LIBRARY = "scan", "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "n.db", libraries={1: "/music"})
    with closing(sqlite3.connect(settings.NAVIDROME_DB_PATH)) as connection, connection:
        connection.execute("UPDATE library SET last_scan_at = '2026-01-08 03:00:00+00:00'")
    assert run(at("12:00", day=5)) is None
    assert run(at("12:00", day=8))
