"""What a job finds to do in a library, and how it writes that down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from batches import services
from batches.engine import plan as planner
from batches.engine.leases import DeviceLease, LeaseLost
from batches.engine.pulse import Interrupted
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.embedder.client import EmbedderClient
from embeddings.errors import FingerprintChanged, LibraryUnavailable, WeightsMissing
from embeddings.library.sync import sync_tracks
from embeddings.models import BadFile, Embedding, EmbeddingSpace, Playlist, PlaylistTrack, Track
from embeddings.spaces.lifecycle import make_live, space_for
from tests.batches.conftest import Music
from tests.batches.rows import device, make_embedding, make_space, make_track, progress_of, set_status, take_device
from tests.instances import EmbedderProcess

pytestmark = [pytest.mark.django_db, pytest.mark.database]

Plan = Callable[..., BatchJob]


@pytest.fixture
def plan(music: Music, lease: DeviceLease) -> Plan:
    """Start a job with given spaces (else a new, live one for each model) and plan it."""

    def plan(models: Sequence[str] = ("muq",), **options: Any) -> BatchJob:
        job = services.start_job(JobRequest(models, **options))
        for progress in job.progress.all():
            progress.space = EmbeddingSpace.objects.filter(model=progress.model).last() or make_space(progress.model)
            progress.save()
        planner.plan(job, lease, lease.renew)
        return job

    return plan


def wanted(job: BatchJob, model: str = "muq") -> list[str]:
    return sorted(job.results.filter(model=model).values_list("track_id", flat=True))


def library(music: Music, *names: str) -> dict[str, Track]:
    """Tracks that have been seen by a scan; their files do not matter here."""
    for name in names:
        music.add_row(f"{name}.flac")
    sync_tracks()
    return Track.objects.in_bulk()


def test_tracks_without_a_vector_need_work(music: Music, plan: Plan) -> None:
    tracks = library(music, "a", "b")
    make_embedding(make_space(), tracks["a"])
    job = plan()
    assert wanted(job) == ["b"]
    assert (job.planned, job.total_tracks, progress_of(job).total) == (True, 1, 1)
    assert progress_of(job).skipped == {"up to date": 1}
    assert progress_of(job).audio_seconds_total == 2.0


@pytest.mark.parametrize("change", [{"size": 7}, {"updated_at": "2031-01-01"}])
def test_changed_files_need_work(music: Music, plan: Plan, change: dict[str, Any]) -> None:
    space = make_space()
    for track in library(music, "a", "b").values():
        make_embedding(space, track)
    music.change("b", **change)
    assert wanted(plan()) == ["b"]


def test_clear_existing_of_a_part_needs_all_of_it_again(music: Music, plan: Plan) -> None:
    make_embedding(make_space(), library(music, "a", "b")["a"])
    job = plan(clear_existing=True, library_id=1)
    assert wanted(job) == ["a", "b"]
    assert progress_of(job).skipped == {}
    assert set(job.results.values_list("reason", flat=True)) == {"anew"}


def test_rows_say_why_their_track_needs_work(music: Music, plan: Plan) -> None:
    tracks = library(music, "a", "b", "c", "d")
    space = make_space()
    make_embedding(space, tracks["a"])
    make_embedding(space, tracks["b"], mtime="old")
    former = set_status(services.start_job(JobRequest(["muq"])), "completed_with_errors")
    former.results.create(track=tracks["c"], model="muq", status="failed")
    job = plan()
    assert dict(job.results.values_list("track", "reason")) == {"b": "changed", "c": "failed before", "d": "new"}


@pytest.mark.parametrize(
    ("asked", "found"), [({}, ["bad", "failed", "gone"]), ({"failed_with": "no such file"}, ["gone"])]
)
def test_only_what_has_failed_is_tried_again(music: Music, plan: Plan, asked: dict[str, str], found: list[str]) -> None:
    tracks = library(music, "new", "done", "failed", "gone", "bad", "ignored")
    make_embedding(make_space(), tracks["done"])
    former = set_status(services.start_job(JobRequest(["muq"])), "completed_with_errors")
    for name, message in {"done": "old", "failed": "no memory", "gone": "no such file: x", "ignored": "cut"}.items():
        former.results.create(track=tracks[name], model="muq", status="failed", error_message=message)
    for name in ("bad", "ignored"):
        track = tracks[name]
        facts = {"size": track.size, "mtime": track.mtime, "error_message": "cut", "ignored": name == "ignored"}
        BadFile.objects.create(track=track, model="muq", **facts)
    job = plan(("muq", "mert"), only_failed=True, retry_bad_files=True, **asked)
    assert (wanted(job), wanted(job, "mert")) == (found, [])


def test_file_with_a_new_id_keeps_its_vector(music: Music, plan: Plan) -> None:
    track = library(music, "a")["a"]
    make_embedding(make_space(), track)
    music.remove("a")
    music.add_row("a.flac", id="z", updated_at=track.mtime)
    job = plan()
    assert (wanted(job), progress_of(job).skipped) == ([], {"new id": 1, "up to date": 1})
    assert Embedding.objects.filter(track_id="z", index_state="pending").exists()


def test_recipe_names_a_file_by_its_new_id(music: Music, plan: Plan) -> None:
    track = library(music, "a")["a"]
    named = PlaylistTrack.objects.create(
        playlist=Playlist.objects.create(name="p", user="u", recipe={}), role="like", place=0, track=track
    )
    music.remove("a")
    music.add_row("a.flac", id="z", updated_at=track.mtime)
    plan()
    named.refresh_from_db()
    assert named.track_id == "z"


# Planned again at the end of a build


@pytest.fixture
def built(music: Music, plan: Plan) -> BatchJob:
    """A job over three tracks whose first one succeeded, second failed and third is to come."""
    tracks = library(music, "a", "b", "c")
    job = plan()
    space = progress_of(job).space
    assert space
    make_embedding(space, tracks["a"])
    for track, status in (("a", "succeeded"), ("b", "failed")):
        job.results.filter(track=track).update(status=status, attempts=1)
    planner.recount(job)
    job.refresh_from_db()
    return job


def again(job: BatchJob) -> BatchJob:
    assert planner.plan_again(job)
    job.refresh_from_db()
    plan_on(job)
    return job


def test_recount_sets_the_counters_to_what_the_rows_say(built: BatchJob) -> None:
    assert (built.total_tracks, built.processed_tracks, built.failed_tracks) == (3, 1, 1)
    progress = progress_of(built)
    counted = (progress.total, progress.succeeded, progress.failed)
    seconds = sum(Track.objects.values_list("duration", flat=True))
    assert (*counted, progress.audio_seconds_total) == (3, 1, 1, seconds)
    assert progress.audio_seconds_done == pytest.approx(seconds * 2 / 3)


def test_what_changed_or_came_meanwhile_is_done_again_and_what_failed_is_not(music: Music, built: BatchJob) -> None:
    built.results.filter(track="c").update(status="failed")
    music.change("a", updated_at="2031-01-01")
    music.add("new.flac")
    again(built)
    rows = dict(built.results.values_list("track", "status"))
    assert rows == {"a": "pending", "b": "failed", "c": "failed", "new": "pending"}
    assert (built.total_tracks, built.processed_tracks, built.failed_tracks) == (4, 0, 2)


def test_plan_that_finds_nothing_more_is_the_last(built: BatchJob) -> None:
    built.results.filter(track="c").update(status="failed")
    again(built)
    assert not planner.plan_again(built)


def test_library_that_changes_all_the_time_is_not_planned_for_ever(music: Music, built: BatchJob) -> None:
    plans = 1
    while planner.plan_again(built):
        music.add(f"new{plans}.flac")
        built.refresh_from_db()
        plan_on(built)
        plans += 1
    assert plans == planner.LAST_PLAN


def test_cancel_ends_a_plan_between_two_slices(music: Music, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "TRACKS_A_SLICE", 2)
    library(music, *"abcde")
    job = services.start_job(JobRequest(["muq"]))
    job.progress.update(space=make_space())
    lease = take_device()

    def raise_if_stopped() -> None:
        lease.renew()
        if job.results.exists():
            raise Interrupted

    with pytest.raises(Interrupted):
        planner.plan(job, lease, raise_if_stopped)
    job.refresh_from_db()
    assert (job.planned, wanted(job)) == (False, ["a", "b"])


def test_vectors_of_another_space_do_not_count(music: Music, plan: Plan) -> None:
    make_embedding(make_space(fingerprint="old", status="kept"), library(music, "a")["a"])
    make_space()
    assert wanted(plan()) == ["a"]


def test_each_model_has_rows_for_what_it_lacks(music: Music, plan: Plan) -> None:
    make_embedding(make_space("muq"), library(music, "a", "b")["a"])
    job = plan(("muq", "mert"))
    assert (wanted(job, "muq"), wanted(job, "mert")) == (["b"], ["a", "b"])
    assert job.total_tracks == 2


def test_limit_counts_only_tracks_that_need_work(music: Music, plan: Plan) -> None:
    tracks = library(music, *"abcdef")
    space = make_space()
    for name in "ace":
        make_embedding(space, tracks[name])
    job = plan(limit=2)
    assert wanted(job) == ["b", "d"]
    assert progress_of(job).skipped == {"up to date": 2}


def test_limit_holds_over_slices(music: Music, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "TRACKS_A_SLICE", 2)
    library(music, *"abcdef")
    assert wanted(plan(limit=3)) == ["a", "b", "c"]


def test_limit_counts_a_track_that_lacks_one_model(music: Music, plan: Plan) -> None:
    tracks = library(music, "a", "b")
    for model in ("muq", "mert"):
        make_embedding(make_space(model), tracks["a"])
    make_embedding(EmbeddingSpace.objects.get(model="muq"), tracks["b"])
    job = plan(("muq", "mert"), limit=1)
    assert (wanted(job, "muq"), wanted(job, "mert")) == ([], ["b"])


def test_only_one_library(music: Music, plan: Plan) -> None:
    music.add_row("a.flac")
    music.change("a", library_id=1)
    make_track("z", library_id=2, scan=99)
    assert wanted(plan(library_id=1)) == ["a"]


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("Rock", ["exact"]),
        ("rock", ["lower"]),
        ("R%", ["percent"]),
        ("R_", ["underscore"]),
        ("É", ["utf"]),
    ],
)
def test_path_prefix_is_exact_and_has_no_wildcards(music: Music, plan: Plan, prefix: str, found: list[str]) -> None:
    names = {"exact": "Rock/1", "lower": "rock/1", "percent": "R%ck/1", "underscore": "R_ck/1", "utf": "Élan/1"}
    for track_id, path in names.items():
        music.add_row(f"{path}.flac", id=track_id)
    assert wanted(plan(path_prefix=f"{music.root}/{prefix}")) == found


def test_tracks_that_are_gone_are_marked_and_need_nothing(music: Music, plan: Plan) -> None:
    library(music, "gone", "here", "hidden")
    music.remove("gone")
    music.change("hidden", missing=True)
    assert wanted(plan()) == ["here"]
    assert set(Track.objects.filter(playable=False).values_list("id", flat=True)) == {"gone", "hidden"}


def test_track_that_is_back_is_playable_again(music: Music, plan: Plan) -> None:
    track = library(music, "a")["a"]
    Track.objects.update(playable=False)
    make_embedding(make_space(), track)
    assert wanted(plan()) == []
    assert Track.objects.get().playable


def test_planner_goes_on_after_an_interruption_between_two_slices(
    music: Music, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planner, "TRACKS_A_SLICE", 2)
    tracks = library(music, *"abcde")
    make_embedding(make_space(), tracks["b"])
    lost_after(2, monkeypatch)
    with pytest.raises(LeaseLost):
        plan()
    job = BatchJob.objects.get()
    assert (job.planned, wanted(job)) == (False, ["a", "c", "d"])
    monkeypatch.undo()
    plan_on(job)
    assert wanted(job) == ["a", "c", "d", "e"]
    progress = progress_of(job)
    assert (job.total_tracks, progress.total, progress.skipped) == (4, 4, {"up to date": 1})


def lost_after(slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the device over in the middle of a slice, after ``slices`` whole ones."""
    count, planned = planner._count, []

    def counting(job: BatchJob, *arguments: Any) -> None:
        planned.append(job)
        if len(planned) > slices:
            raise LeaseLost("taken over")
        count(job, *arguments)

    monkeypatch.setattr(planner, "_count", counting)


def plan_on(job: BatchJob) -> None:
    """Go on with a plan."""
    lease = DeviceLease(device(), device().seq)
    planner.plan(job, lease, lease.renew)


def test_resumed_plan_does_not_scan_again(music: Music, plan: Plan) -> None:
    library(music, "a")
    job = plan()
    BatchJob.objects.update(planned=False)
    scan = Track.objects.get().scan
    plan_on(BatchJob.objects.get(pk=job.pk))
    assert Track.objects.get().scan == scan


def test_a_scan_whose_lease_was_lost_marks_nothing(music: Music) -> None:
    library(music, "a", "b")
    music.remove("b")

    def lost() -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        sync_tracks(raise_if_stopped=lost)
    assert set(Track.objects.values_list("scan", "playable")) == {(1, True)}


def test_library_that_cannot_be_read_leaves_tracks_alone(music: Music, plan: Plan) -> None:
    library(music, "a")
    music.database.unlink()
    with pytest.raises(LibraryUnavailable, match="NAVIDROME_DB_PATH"):
        plan()
    assert Track.objects.get().playable


# With the real embedder, which says what the weights are.


def test_first_space_of_a_model_is_live_at_once(music: Music, lease: DeviceLease, embedder: EmbedderProcess) -> None:
    library(music, "a")
    job = services.start_job(JobRequest(["muq"]))
    planner.plan(job, lease, lease.renew)
    space = progress_of(job).space
    assert space
    assert (space.status, space.dimension) == ("live", 1536)


def test_other_weights_are_built_beside_what_is_live(
    music: Music, lease: DeviceLease, embedder: EmbedderProcess
) -> None:
    live = make_space(fingerprint="other weights")
    make_embedding(live, library(music, "a")["a"])
    job = services.start_job(JobRequest(["muq"]))
    planner.plan(job, lease, lease.renew)
    space = progress_of(job).space
    assert space
    assert (space.status, wanted(job)) == ("building", ["a"])


@pytest.mark.parametrize("restriction", [{"limit": 1}, {"library_id": 1}, {"path_prefix": "/"}])
def test_restricted_job_is_refused_when_the_weights_have_changed(
    music: Music, lease: DeviceLease, embedder: EmbedderProcess, restriction: dict[str, Any]
) -> None:
    music.add_row("a.flac")
    make_space(fingerprint="other weights")
    leftover = make_space(fingerprint="third weights", status="building")
    with pytest.raises(FingerprintChanged, match="over the whole library"):
        planner.plan(services.start_job(JobRequest(["muq"], **restriction)), lease, lease.renew)
    assert set(EmbeddingSpace.objects.values_list("status", flat=True)) == {"live", "building"}
    assert EmbeddingSpace.objects.filter(pk=leftover.pk).exists()


def test_restricted_job_works_in_the_live_space(music: Music, lease: DeviceLease, embedder: EmbedderProcess) -> None:
    library(music, "a", "b")
    live = space_for("muq", EmbedderClient().describe("muq"))
    job = services.start_job(JobRequest(["muq"], limit=1))
    planner.plan(job, lease, lease.renew)
    assert (progress_of(job).space, wanted(job)) == (live, ["a"])


def test_leftover_build_of_other_weights_is_dropped_though_a_cancelled_job_knows_it(
    music: Music, lease: DeviceLease, embedder: EmbedderProcess
) -> None:
    make_embedding(make_space(fingerprint="old"), library(music, "a")["a"])
    leftover = make_space(fingerprint="older", status="building")
    former = services.start_job(JobRequest(["muq"]))
    former.progress.update(space=leftover)
    set_status(former, "cancelled")
    planner.plan(services.start_job(JobRequest(["muq"])), lease, lease.renew)
    assert progress_of(former).space == leftover
    assert [space.status for space in EmbeddingSpace.objects.order_by("pk")] == ["live", "dropping", "building"]


def test_build_goes_on_in_the_next_job(music: Music, lease: DeviceLease, embedder: EmbedderProcess) -> None:
    tracks = library(music, "a", "b")
    make_embedding(make_space(fingerprint="old"), tracks["a"])
    building = space_for("muq", EmbedderClient().describe("muq"))
    make_embedding(building, tracks["a"])
    job = services.start_job(JobRequest(["muq"]))
    planner.plan(job, lease, lease.renew)
    assert (progress_of(job).space, wanted(job)) == (building, ["b"])


def test_missing_weights_are_named_before_the_library_is_read(
    music: Music, lease: DeviceLease, embedder: EmbedderProcess, tmp_path: Any
) -> None:
    music.add_row("a.flac")
    embedder.restart(NAVEMBED_MERT=str(tmp_path / "nowhere"))
    with pytest.raises(WeightsMissing, match="nowhere"):
        planner.plan(services.start_job(), lease, lease.renew)
    assert not Track.objects.exists()


# Spaces


def test_made_live_replaces_what_was_live() -> None:
    old, new = make_space(fingerprint="old"), make_space(fingerprint="new", status="building")
    assert make_live([new]) == [new]
    assert make_live([new]) == []
    assert dict(EmbeddingSpace.objects.values_list("pk", "status")) == {old.pk: "kept", new.pk: "live"}


def test_kept_space_is_not_made_live() -> None:
    live, kept = make_space(fingerprint="new"), make_space(fingerprint="old", status="kept")
    assert make_live([kept]) == []
    assert dict(EmbeddingSpace.objects.values_list("pk", "status")) == {live.pk: "live", kept.pk: "kept"}
