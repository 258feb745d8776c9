"""A dry run foresees what a job then plans, whatever has happened to the library since the last job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from django.db import transaction
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from batches import services
from batches.engine import plan as planner
from batches.models import BatchJob, TrackResult
from batches.requests import JobRequest
from batches.selectors.dry_run import Preview, preview
from embeddings.embedder.client import EmbedderClient
from embeddings.library.sync import sync_tracks
from embeddings.models import BadFile, EmbeddingSpace, Track
from embeddings.spaces.lifecycle import space_for
from tests.batches.conftest import Music
from tests.batches.rows import make_embedding, take_device
from tests.instances import EmbedderProcess

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LATER = "2031-01-01"
State = Callable[[Track, EmbeddingSpace, BatchJob], object]
Event = Callable[[Music, str], object]

STATES: dict[str, State] = {
    "new": lambda track, space, former: None,
    "embedded": lambda track, space, former: make_embedding(space, track),
    "leaving": lambda track, space, former: make_embedding(space, track, index_state="deleting"),
    "failed": lambda track, space, former: former.results.create(
        track=track, model="muq", status=TrackResult.Status.FAILED, error_message="cut off"
    ),
    "bad": lambda track, space, former: BadFile.objects.create(
        track=track, model="muq", size=track.size, mtime=track.mtime, failed_at=former.created_at
    ),
}
EVENTS: dict[str, Event] = {
    "nothing": lambda music, name: None,
    "tags": lambda music, name: music.change(name, title="other", updated_at=LATER),
    "changed": lambda music, name: music.change(name, size=7, updated_at=LATER),
    "new id": lambda music, name: music.change(name, id=f"n-{name}"),
    "moved": lambda music, name: music.change(name, id=f"m-{name}", path=f"else/{name}.flac", updated_at=LATER),
    "deleted": lambda music, name: music.remove(name),
    "away": lambda music, name: music.change(name, missing=True),
}
TRACKS = st.lists(st.tuples(st.sampled_from(sorted(STATES)), st.sampled_from(sorted(EVENTS))), max_size=5)
REQUESTS = st.builds(
    JobRequest,
    models=st.just(("muq",)),
    clear_existing=st.booleans(),
    retry_bad_files=st.booleans(),
    limit=st.none() | st.integers(1, 3),
    library_id=st.none() | st.just(1),
    only_failed=st.booleans(),
    failed_with=st.sampled_from(["", "cut"]),
)
FAILED = JobRequest(["muq"], only_failed=True, retry_bad_files=True, failed_with="cut")


@pytest.fixture
def space(embedder: EmbedderProcess, music: Music) -> EmbeddingSpace:
    return space_for("muq", EmbedderClient().describe("muq"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([("bad", "new id")], JobRequest(["muq"]))
@example([("new", "nothing"), ("failed", "nothing"), ("bad", "nothing")], FAILED)
@example([("embedded", "moved")], FAILED)
@example([("leaving", "nothing"), ("leaving", "changed")], JobRequest(["muq"]))
@given(TRACKS, REQUESTS)
def test_a_dry_run_says_what_the_job_plans(
    music: Music, space: EmbeddingSpace, tracks: list[tuple[str, str]], request_: JobRequest
) -> None:
    with transaction.atomic():
        happen(music, space, tracks)
        foreseen = preview(request_)
        assert said(foreseen) == planned(request_)
        transaction.set_rollback(True)


def happen(music: Music, space: EmbeddingSpace, tracks: list[tuple[str, str]]) -> None:
    """Leave the library as a job has seen it, then change it."""
    music.clear()
    names = [f"t{number}" for number in range(len(tracks))]
    for number, name in enumerate(names):
        music.add_row(f"{name}.flac", size=1000 + number)
    sync_tracks()
    rows = Track.objects.in_bulk()
    former = BatchJob.objects.create(model_keys=["muq"], status="failed", finished_at="2024-01-01T00:00Z")
    for name, (state, _) in zip(names, tracks, strict=True):
        STATES[state](rows[name], space, former)
    for name, (_, event) in zip(names, tracks, strict=True):
        EVENTS[event](music, name)


def said(foreseen: Preview) -> Counter[str]:
    """Return what is foreseen, as a job counts it."""
    [model] = foreseen.models
    counts = Counter(model.tracks)
    counts["new"] += counts.pop("same audio")  # hashes decide when the file's turn comes
    counts["up to date"] += counts["new id"]  # its vector has changed hands by then
    return +counts


def planned(request: JobRequest) -> Counter[str]:
    job = services.start_job(request)
    lease = take_device()
    planner.plan(job, lease, lease.renew)
    skipped = job.progress.get().skipped
    return +(Counter(job.results.values_list("reason", flat=True)) + Counter(skipped))
