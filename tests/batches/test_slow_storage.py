"""Planning on storage that is slow: it says how far it is, can be stopped, and goes on where it was."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batches import services
from batches.engine import plan
from batches.engine.leases import DeviceLease
from batches.engine.pulse import Interrupted
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.progress import contract_progress
from embeddings.models import Track
from tests.batches.rows import make_space, work_on
from tests.reading import Wrap, wrap

__all__ = ["wrap"]

pytestmark = [pytest.mark.django_db, pytest.mark.database]
Status = BatchJob.Status
FILES = 5


@pytest.fixture
def folder(tmp_path: Path, settings: Any, pool: list[Path]) -> Path:
    """A plain folder of music."""
    root = tmp_path / "music"
    root.mkdir()
    for number in range(FILES):
        shutil.copy(pool[0], root / f"{number}.flac")
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", root
    return root


def start() -> BatchJob:
    job = services.start_job(JobRequest(["muq"]))
    job.progress.update(space=make_space())
    return job


@pytest.mark.parametrize(("ask", "end"), [(services.cancel_job, Status.CANCELLED), (services.pause_job, Status.PAUSED)])
def test_a_job_can_be_stopped_while_one_file_blocks(
    folder: Path, wrap: Wrap, monkeypatch: pytest.MonkeyPatch, ask: Callable[[BatchJob], None], end: str
) -> None:
    wrap("time.sleep(600)")
    job, shown = start(), list[str]()
    set_planning = services.set_planning

    def stop_when_it_waits(job: BatchJob, doing: str) -> None:
        set_planning(job, doing)
        shown.append(contract_progress(job)["current_track"])
        if "waiting for" in doing:
            ask(job)

    monkeypatch.setattr(services, "set_planning", stop_when_it_waits)
    work_on()
    job.refresh_from_db()
    assert (job.status, job.message) == (end, "")
    assert f"of {FILES} files; waiting for {folder}/" in shown[-1]


def test_a_scan_that_was_broken_off_opens_no_file_again(folder: Path, wrap: Wrap, lease: DeviceLease) -> None:
    opened = folder.parent / "opened"
    wrap(f"time.sleep(1); open({str(opened)!r}, 'a').write(path + chr(10))")
    job = start()

    def raise_if_stopped() -> None:
        if Track.objects.exists():
            raise Interrupted

    with pytest.raises(Interrupted):
        plan.plan(job, lease, raise_if_stopped)
    written = set(Track.objects.values_list("path", flat=True))
    plan.plan(job, lease, lease.renew)
    assert 0 < len(written) < FILES == job.total_tracks
    times = Counter(opened.read_text().splitlines())
    assert {times[path] for path in written} == {1}


def test_a_job_that_plans_says_so_and_waits_no_more(folder: Path) -> None:
    job = start()
    services.set_waiting(job, "no embedder listens at embedder.sock")
    services.set_planning(job, "reading the library: 3 of 5 files")
    shown = contract_progress(job)
    assert (shown["status"], shown["current_track"]) == ("initialized", "reading the library: 3 of 5 files")


def test_a_job_that_compares_the_library_once_more_shows_that(folder: Path) -> None:
    job = start()
    services.set_running(job)
    BatchJob.objects.update(current_track="the last one")
    services.set_planning(job, "reading the library: 3 of 5 files")
    shown = contract_progress(job)
    assert (shown["status"], shown["current_track"]) == ("running", "reading the library: 3 of 5 files")
    services.set_planning(job, "")
    assert contract_progress(job)["current_track"] == "the last one"


def test_a_job_that_is_to_pause_does_not_look_as_if_it_planned(folder: Path) -> None:
    job = start()
    services.pause_job(job, reason="outside of the quiet hours")
    services.set_planning(job, "reading the library: 3 of 5 files")
    assert (job.status, job.message) == (Status.PAUSING, "outside of the quiet hours")
