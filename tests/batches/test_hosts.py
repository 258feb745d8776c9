"""Several hosts work for one instance: what keeps one from it holds up nobody else."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from batches import services
from batches.engine import chunks, hosts, leases, pace, runner
from batches.engine.plan import _require_same_weights
from batches.engine.pulse import Pulse
from batches.models import BatchJob, Device, Host
from batches.requests import JobRequest
from batches.selectors.dry_run import preview
from batches.selectors.progress import snapshot
from embeddings.embedder.client import EmbedderClient
from embeddings.errors import EmbedderUnavailable, FingerprintChanged, SwitchRefused
from navembed_site.errors import NavembedError
from tests.batches.rows import (
    device,
    elsewhere,
    make_job,
    make_space,
    make_track,
    make_tracks,
    success,
    take_device,
    work_on,
)
from tests.batches.whole_jobs import end_turn
from tests.navidrome_db import make_navidrome

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make each step of a slice raise an error, once."""

    def fail(error: NavembedError) -> str:
        def advance(work: runner._TimeSlice, job: BatchJob) -> None:
            work.deadline = 0.0
            raise error

        monkeypatch.setattr(runner._TimeSlice, "_advance", advance)
        monkeypatch.setattr(runner._TimeSlice, "_sleep", lambda *_: None)
        return work_on()

    return fail


@pytest.mark.parametrize("error", [EmbedderUnavailable("away"), FingerprintChanged("other weights")])
def test_what_keeps_a_device_from_working_is_its_own_problem_while_another_works(fails: Any, error: Any) -> None:
    elsewhere()
    job = make_job(make_tracks(1))
    fails(error)
    job.refresh_from_db()
    assert (job.status, job.message, device().problem) == ("initialized", "", str(error))


def test_the_job_waits_when_the_last_device_is_kept_from_working(fails: Any) -> None:
    elsewhere(problem="no music")
    job = make_job(make_tracks(1))
    fails(EmbedderUnavailable("away"))
    job.refresh_from_db()
    assert (job.status, job.message) == ("waiting", "away")


def test_a_host_that_has_gone_does_not_count_as_working(fails: Any) -> None:
    elsewhere()
    Host.objects.filter(key="ffff").update(seen_at=timezone.now() - timedelta(minutes=5))
    job = make_job(make_tracks(1))
    fails(EmbedderUnavailable("away"))
    job.refresh_from_db()
    assert job.status == "waiting"


def test_what_concerns_the_job_itself_ends_it_whoever_else_works(fails: Any) -> None:
    elsewhere()
    job = make_job(make_tracks(1))
    fails(SwitchRefused("too few"))
    job.refresh_from_db()
    assert (job.status, job.message) == ("failed", "too few")


def test_a_problem_is_forgotten_when_work_goes_on() -> None:
    job, lease = make_job(make_tracks(1)), take_device()
    Device.objects.update(problem="away")
    lease.device.refresh_from_db()
    pulse = Pulse(job, lease, clock=count().__next__)
    pulse.beat()
    assert device().problem == "away"
    pulse.current = "[muq] t000"
    pulse.beat()
    assert (device().problem, job.status) == ("", "running")


def test_a_problem_stays_while_every_slice_is_held_up_anew(
    milvus: object, settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.EMBEDDER_SOCKET = tmp_path / "none.sock"
    job, seen, run_chunk = make_job(make_tracks(1)), [], runner._TimeSlice._run_chunk

    def watched(work: runner._TimeSlice, job: BatchJob, chunk: chunks.Chunk) -> None:
        seen.append(bool(device().problem))
        run_chunk(work, job, chunk)

    monkeypatch.setattr(runner._TimeSlice, "_run_chunk", watched)
    monkeypatch.setattr(runner._TimeSlice, "_sleep", end_turn)
    assert [work_on(), work_on()] == ["goes on", "goes on"]
    job.refresh_from_db()
    assert (seen, job.status) == ([False, True], "waiting")
    assert job.events.get(kind="waiting").until is None


def test_a_host_that_ends_says_so() -> None:
    leases.recover()
    presence = hosts.Presence()
    presence.stop()
    assert not Host.objects.filter(seen_at__gt=timezone.now() - hosts.ABSENT / 2).exists()


def test_a_host_stays_there_whatever_its_embedders_do(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DEVICES = ("cuda:0", "cuda:1")
    leases.recover()
    presence, seen = hosts.Presence(), []

    def answer(_: EmbedderClient) -> dict[str, Any]:
        seen.append(Host.objects.get().seen_at > timezone.now() - hosts.ABSENT / 2)
        Host.objects.update(seen_at=timezone.now() - hosts.ABSENT)  # so long did it take
        if len(seen) == 4:
            presence._stopping.set()
        raise EmbedderUnavailable("it is frozen") if len(seen) % 2 else KeyError("what another version answers")

    monkeypatch.setattr(hosts, "SIGN_SECONDS", 0.0)
    monkeypatch.setattr(hosts, "close_old_connections", lambda: None)  # it would close the test's
    monkeypatch.setattr(EmbedderClient, "status", answer)
    presence.run()
    assert seen == [True] * 4


def test_hosts_that_were_not_seen_for_a_week_are_forgotten() -> None:
    old, new = elsewhere("old"), elsewhere("new")
    Host.objects.filter(key="old").update(seen_at=timezone.now() - timedelta(days=8))
    assert hosts.forget_absent() == 1
    assert list(Device.objects.filter(pk__in=[old.pk, new.pk])) == [new]


def test_a_host_is_kept_while_something_is_claimed_by_it() -> None:
    device = elsewhere("old")
    job = make_job(make_tracks(1))
    job.results.update(status="running", device=device)
    Host.objects.filter(key="old").update(seen_at=timezone.now() - timedelta(days=8))
    assert hosts.forget_absent() == 0


def test_a_chunk_is_so_many_seconds_of_the_devices_own_work() -> None:
    job = make_job([make_track(f"t{number:03}", duration=10) for number in range(100)])
    fast, slow = device(), elsewhere()
    fast.rates, slow.rates = {"muq": 10.0}, {"muq": 2.0}
    assert (pace.estimated_seconds(make_track("x", duration=10), fast, "muq")) == 1
    progress = list(job.progress.all())
    assert pace.chunk_seconds(progress, [fast, slow]) == pace.CHUNK_SECONDS
    job.progress.update(audio_seconds_done=940)  # sixty are left: five seconds of both together
    assert pace.chunk_seconds(list(job.progress.all()), [fast, slow]) == pytest.approx(5 / pace.PARTS)


def test_the_time_that_is_left_is_that_of_all_devices_together() -> None:
    make_space()
    job = make_job([make_track("a", duration=120)])
    Device.objects.filter(pk=device().pk).update(rates={"muq": 10.0})
    elsewhere(rates={"muq": 2.0})
    elsewhere(index=1, rates={"muq": 100.0}, problem="no music")
    assert (snapshot(job).seconds_left, snapshot(job).speed) == (pytest.approx(10), pytest.approx(12))


def test_two_devices_share_what_is_ready() -> None:
    job = make_job(make_tracks(60))
    first, second = take_device(0), take_device(1)
    claimed = [chunks.claim(job, lease) for lease in (first, second, first)]
    ids = [row.track_id for chunk in claimed if chunk for row in chunk.rows]
    assert len(ids) == len(set(ids))
    assert services.active_job() == job


def test_a_host_without_a_library_leaves_planning_to_another(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", None
    elsewhere()
    job = services.start_job(JobRequest(["muq"]))
    monkeypatch.setattr(runner._TimeSlice, "_sleep", lambda work, *_: setattr(work, "deadline", 0.0))
    assert (work_on(), device().problem) == ("goes on", "")
    job.refresh_from_db()
    assert (job.holder, job.planned) == (None, False)


def test_a_host_with_other_weights_does_not_plan_while_another_has_those_that_search_uses() -> None:
    make_space(fingerprint="of search")
    other = elsewhere(fingerprints={"muq": "of search"})
    with pytest.raises(FingerprintChanged, match="are not those on ffff"):
        _require_same_weights(device(), "muq", "another")
    _require_same_weights(device(), "muq", "of search")
    Device.objects.filter(pk=other.pk).update(problem="no music")
    _require_same_weights(device(), "muq", "another")  # nobody else goes on


def test_a_device_keeps_which_vectors_it_makes() -> None:
    [track] = make_tracks(1)
    job, lease = make_job([track]), take_device()
    chunk = chunks.claim(job, lease)
    assert chunk
    chunks.commit(job, lease, chunk, [success(track)], 1.0)
    assert device().fingerprints == {"muq": "f"}


def test_a_dry_run_reckons_with_all_devices(tmp_path: Any, settings: Any) -> None:
    (tmp_path / "music").mkdir()
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(
        tmp_path / "n.db", [{"id": "a", "path": "a.flac", "duration": 120.0}], libraries={1: str(tmp_path / "music")}
    )
    make_space()
    Device.objects.filter(pk=device().pk).update(rates={"muq": 10.0})
    elsewhere(rates={"muq": 2.0})
    assert preview(JobRequest(["muq"])).work_seconds == pytest.approx(10)
