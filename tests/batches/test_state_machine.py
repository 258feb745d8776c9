"""Any order of starts, pauses, resumes, cancels, retries, crashes and finished work keeps what must always hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django_q.models import OrmQ
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from batches import services
from batches.engine import chunks
from batches.engine.chunks import Chunk
from batches.engine.leases import DeviceLease
from batches.models import TERMINAL, BatchJob, Device, Host, TrackResult
from batches.requests import JobRequest
from embeddings.embedder.work import TrackOutcome
from embeddings.models import Embedding, EmbeddingSpace, Track
from tests.batches.rows import device, failure, make_space, make_tracks, success, take_device

pytestmark = [pytest.mark.django_db, pytest.mark.database]

Status = BatchJob.Status
MODELS = ("muq", "latent")
ACTIONS = (services.pause_job, services.resume_job, services.cancel_job, services.retry_failed)
OUTCOMES = ("good", "good", "good", "damaged", "passing", "nothing")
TRACKS = 3


class Jobs(RuleBasedStateMachine):
    """One device and whatever people do; the embedder's work is made up, all the rest is real."""

    def __init__(self) -> None:
        super().__init__()
        for model in (BatchJob, Device, Host, OrmQ, Embedding, EmbeddingSpace, Track):
            model.objects.all().delete()
        device()
        make_tracks(TRACKS)
        for key in MODELS:
            make_space(key)
        self.lease: DeviceLease | None = None
        self.chunk: Chunk | None = None
        self.ended: dict[int, str] = {}

    # People

    @rule(queue=st.booleans())
    def start(self, queue: bool) -> None:
        unfinished = services.open_job() is not None
        try:
            services.start_job(JobRequest(MODELS), queue=queue)
        except services.JobConflict:
            assert unfinished
            assert not queue
        else:
            assert queue or not unfinished

    @precondition(lambda self: BatchJob.objects.exists())
    @rule(action=st.sampled_from(ACTIONS), which=st.integers(0, 3))
    def act(self, action: Callable[[BatchJob], object], which: int) -> None:
        jobs = list(BatchJob.objects.all())
        job = jobs[which % len(jobs)]
        before = job.status
        try:
            action(job)
        except services.JobConflict:
            job.refresh_from_db()
            assert job.status == before

    # The device

    @rule()
    def watch(self) -> None:
        services.watch()

    @rule(outcomes=st.lists(st.sampled_from(OUTCOMES), min_size=TRACKS, max_size=TRACKS))
    def work(self, outcomes: list[str]) -> None:
        self.lease = self.lease or take_device()
        job = services.active_job()
        if self.chunk:
            self._settle(job, outcomes)
        elif job and job.status in BatchJob.ADVANCING:
            self._begin(job)
        elif job and job.status == Status.PAUSING:
            services.set_paused(job)
        elif job and job.status == Status.CANCELLING:
            services.set_cancelled(job)

    @precondition(lambda self: self.chunk)
    @rule()
    def embedder_dies(self) -> None:
        assert self.chunk
        job = services.active_job()
        assert job
        assert self.lease
        chunks.blame(job, self.lease, self.chunk, "killed the embedder")
        self.chunk = None

    @precondition(lambda self: self.lease)
    @rule()
    def worker_is_killed(self) -> None:
        """Another one takes the device over; what was in hand has no outcome."""
        self.chunk, self.lease = None, take_device()
        if job := services.active_job():
            chunks.release_abandoned(job, self.lease)

    @precondition(lambda self: self.chunk)
    @rule()
    def milvus_goes_away(self) -> None:
        if job := services.active_job():
            services.set_waiting(job, "nothing listens")

    def _begin(self, job: BatchJob) -> None:
        assert self.lease
        self._plan(job)
        services.set_running(job)
        TrackResult.objects.update(not_before=None)
        self.chunk = chunks.claim(job, self.lease)
        if self.chunk is None and not chunks.is_left(job):
            services.set_completed(job)

    def _plan(self, job: BatchJob) -> None:
        """Write what the planner would: a row for each track that has no vector."""
        if job.planned:
            return
        for progress in job.progress.all():
            space = EmbeddingSpace.objects.get(model=progress.model)
            wanted = Track.objects.exclude(embeddings__space=space)
            TrackResult.objects.bulk_create(TrackResult(job=job, track=track, model=space.model) for track in wanted)
            job.progress.filter(pk=progress.pk).update(space=space, total=len(wanted))
        tracks = job.results.values("track").distinct().count()
        BatchJob.objects.filter(pk=job.pk).update(planned=True, plans=1, total_tracks=tracks)
        job.refresh_from_db()

    def _settle(self, job: BatchJob | None, outcomes: list[str]) -> None:
        assert job, "a job ended with a chunk in hand"
        assert self.chunk
        assert self.lease
        made = [self._outcome(claimed, kind) for claimed, kind in zip(self.chunk.tracks, outcomes, strict=False)]
        for _ in range(2):  # as when the database's answer was lost
            chunks.commit(job, self.lease, self.chunk, [outcome for outcome in made if outcome], 1.0)
        chunks.release(self.chunk, self.lease)
        self.chunk = None

    def _outcome(self, claimed: chunks.ClaimedTrack, kind: str) -> TrackOutcome | None:
        if kind == "nothing":
            return None
        if kind == "good":
            for model in claimed.results:
                assert not Embedding.objects.filter(track=claimed.track, space__model=model).exists(), "done again"
            return success(claimed.track, *claimed.results)
        return failure(claimed.track, *claimed.results, permanent=kind == "damaged")

    # What always holds

    @invariant()
    def one_job_has_the_turn(self) -> None:
        current = BatchJob.objects.filter(status__in=BatchJob.HOLDS_SLOT).count()
        queued = BatchJob.objects.filter(status=Status.QUEUED).exists()
        assert current <= 1
        assert current or not queued, "somebody is in line and nobody before"

    @invariant()
    def counters_are_what_the_rows_say(self) -> None:
        for job in BatchJob.objects.all():
            rows: dict[str, set[str]] = {}
            for progress in job.progress.all():
                mine = job.results.filter(model=progress.model)
                counted = [mine.filter(status=status).count() for status in ("succeeded", "failed")]
                assert [progress.succeeded, progress.failed] == counted
                assert progress.total == mine.count()
            for track, status in job.results.values_list("track", "status"):
                rows.setdefault(track, set()).add(status)
            done = [found for found in rows.values() if not found & {"pending", "running"}]
            bad = [found for found in done if "failed" in found]
            assert (job.processed_tracks, job.failed_tracks) == (len(done) - len(bad), len(bad))

    @invariant()
    def a_success_has_its_vector(self) -> None:
        for track, model in TrackResult.objects.filter(status="succeeded").values_list("track", "model"):
            assert Embedding.objects.filter(track=track, space__model=model).count() == 1

    @invariant()
    def an_ended_job_has_nothing_in_hand(self) -> None:
        for job in BatchJob.objects.filter(status__in=[*TERMINAL, Status.PAUSED]):
            assert not chunks.is_in_hand(job)
            if job.status in (Status.COMPLETED, Status.COMPLETED_WITH_ERRORS):
                assert not chunks.is_left(job)

    @invariant()
    def work_has_a_message(self) -> None:
        """Whoever is to go on has been woken, or works."""
        if BatchJob.objects.filter(status__in=BatchJob.ACTIVE).exists() and not self.lease:
            assert OrmQ.objects.exists()


def test_any_order_of_events_keeps_what_must_always_hold() -> None:
    run_state_machine_as_test(
        Jobs, settings=settings(max_examples=20, stateful_step_count=30, deadline=None, database=None)
    )
