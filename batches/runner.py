"""The loop of a lane: claim a chunk, have it embedded, commit it, index it; again, until the job has ended.

Slow work (embedder, Milvus, files) happens outside transactions; every write is fenced by the lease.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from django.db import Error as DatabaseError

from batches import chunks, services
from batches.lanes import LaneLost, Lease, take
from batches.models import BatchJob
from batches.planner import plan, require_same_weights
from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.errors import AudioFileMissing, EmbedderDied, EmbedderUnavailable, LibraryUnavailable, NavembedError
from embeddings.indexing import ensure_live_aliases, index_pending
from embeddings.library import open_library
from embeddings.spaces import make_live
from embeddings.work import Step, TrackOutcome, TrackRequest
from navembed_site.processes import stop_requested

logger = logging.getLogger(__name__)

TURN_SECONDS = 120.0  # then the task ends and a new message goes on: Django-Q recycles its workers
MAX_PAUSE_SECONDS = 60.0
EMBEDDER_PAUSE_SECONDS = 4.0
RENEW_SECONDS = 10.0
AT_WORK = (BatchJob.Status.INITIALIZED, BatchJob.Status.RUNNING, BatchJob.Status.WAITING)
LOOK_SECONDS = 1.0  # how often a running chunk looks whether it should stop


class Interrupted(Exception):
    """Somebody wants the job to stop; what is finished is committed, the rest goes back in line."""


def run_lane(device: int, seq: int) -> str:
    """Work on the open job until the turn is over or nothing is left to do. Returns how it ended."""
    lease = take(device, seq)
    if lease is None:
        return "stale"
    try:
        ended = _Turn(lease).run()
    except LaneLost as error:
        logger.warning("%s", error)
        return "lost"
    lease.release()
    return "idle" if ended else "goes on"


class _Turn:
    """One task's worth of work on a lane."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.client = EmbedderClient(lease.device)
        self.deadline = time.monotonic() + TURN_SECONDS
        self.pause = 1.0
        self.behind = True  # Milvus may lack something that an earlier turn has committed

    def run(self) -> bool:
        """Work until the deadline, at least one step; True when no job is open any more."""
        first = services.open_job()
        if first:
            chunks.release_abandoned(first, self.lease)
        while not stop_requested():
            job = services.open_job()
            if job is None:
                return True
            self._step(job)
            if time.monotonic() >= self.deadline:
                break
        return False

    def _step(self, job: BatchJob) -> None:
        """Take the job one step further; what stands in its way makes it wait, or fail."""
        try:
            self._advance(job)
            self.pause = 1.0
        except (LaneLost, DatabaseError):
            raise  # the watchdog begins a new turn
        except NavembedError as error:
            self._wait_or_fail(job, error)
        except Exception as error:
            logger.exception("job %d cannot go on", job.pk)
            services.set_failed(job, f"{type(error).__name__}: {error}")

    def _advance(self, job: BatchJob) -> None:
        if job.status == BatchJob.Status.CANCELLING:
            services.set_cancelled(job)
        elif not job.planned and self.lease.device:
            self._sleep(1.0, job)  # the first lane plans: two scans of the library would contradict each other
        elif not job.planned:
            plan(job, self.lease)
        elif self.behind:
            self._index(job)
            _point_aliases()
        elif chunk := chunks.claim(job, self.lease):
            self._run_chunk(job, chunk)
        elif chunks.is_left(job):
            self._sleep(1.0, job)  # a track waits for its next attempt, or another lane has the last ones
        else:
            self._complete(job)

    def _complete(self, job: BatchJob) -> None:
        """Everything has been tried: what was built beside becomes what search uses."""
        self._index(job)  # what other lanes have committed, too
        make_live(progress.space for progress in job.progress.select_related("space") if progress.space)
        _point_aliases()
        services.set_completed(job)

    def _run_chunk(self, job: BatchJob, chunk: chunks.Chunk) -> None:
        """Embed a chunk, commit what became of it, and send it to Milvus."""
        services.set_running(job)
        outcomes: list[TrackOutcome] = []
        problem: NavembedError | None = None
        seconds = 0.0
        try:
            seconds = self._embed(job, chunk, outcomes)
        except Interrupted:
            pass
        except NavembedError as error:
            problem = error
        if away := _library_away(outcomes, chunk):
            problem = problem or away
            outcomes = [outcome for outcome in outcomes if not _file_is_missing(outcome)]
        self.behind = True
        chunks.commit(job, self.lease, chunk, outcomes, seconds, died=isinstance(problem, EmbedderDied))
        if problem:
            raise problem
        self._index(job)

    def _embed(self, job: BatchJob, chunk: chunks.Chunk, outcomes: list[TrackOutcome]) -> float:
        """Collect the outcomes of a chunk; returns the seconds of work, without those of loading models."""
        began = time.monotonic()
        require_same_weights(chunk.spaces, {row.model for row in chunk.rows}, self.client)
        names = {claimed.track.id: str(claimed.track) for claimed in chunk.tracks}
        pulse = _Pulse(job, self.lease)
        for event in self.client.embed([_request(claimed, chunk) for claimed in chunk.tracks]):
            match event:
                case TrackOutcome():
                    outcomes.append(event)
                case Step():
                    pulse.current = f"[{event.model}] {names[event.track_id]}"
                case End():
                    return max(0.0, time.monotonic() - began - event.load_seconds)
                case Heartbeat():
                    pass
            pulse.beat()
        return 0.0

    def _index(self, job: BatchJob) -> None:
        """Send to Milvus what it does not have yet."""
        for progress in job.progress.select_related("space"):
            if progress.space:
                index_pending(progress.space, progress=lambda _: self.lease.renew())
                self.lease.renew()
        self.behind = False

    def _wait_or_fail(self, job: BatchJob, error: NavembedError) -> None:
        if error.permanent:
            services.set_failed(job, str(error))
            return
        services.set_waiting(job, str(error))
        logger.warning("job %d waits %.0f s: %s", job.pk, self.pause, error)
        self._sleep(self.pause, job)
        # An embedder is of this machine and soon back; Milvus or a share may be away for hours.
        longest = EMBEDDER_PAUSE_SECONDS if isinstance(error, EmbedderUnavailable) else MAX_PAUSE_SECONDS
        self.pause = min(longest, self.pause * 2)

    def _sleep(self, seconds: float, job: BatchJob) -> None:
        """Pause, with a lease that stays ours; a cancel ends it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.lease.renew()
            job.refresh_from_db(fields=["status"])
            if job.status not in AT_WORK or stop_requested():
                return
            time.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))


class _Pulse:
    """Between two frames of the embedder: look for a cancel, show the current track, renew the lease."""

    def __init__(self, job: BatchJob, lease: Lease, clock: Callable[[], float] = time.monotonic) -> None:
        self.job = job
        self.lease = lease
        self.current = ""
        self._shown = ""
        self._clock = clock
        self._looked = self._renewed = clock()

    def beat(self) -> None:
        """Raises Interrupted when the job or the worker is to stop, LaneLost when the lane is not ours any more."""
        now = self._clock()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self.current != self._shown:
                BatchJob.objects.filter(pk=self.job.pk).update(current_track=self.current)
                self._shown = self.current
            self.job.refresh_from_db(fields=["status"])
            if self.job.status not in AT_WORK or stop_requested():
                raise Interrupted
        if now - self._renewed >= RENEW_SECONDS:
            self._renewed = now
            self.lease.renew()


def _point_aliases() -> None:
    """Let the aliases in Milvus name what search uses."""
    for name in ensure_live_aliases():
        logger.warning("Milvus has a collection %s that is not ours; see `manage.py adopt_milvus`", name)


def _request(claimed: chunks.ClaimedTrack, chunk: chunks.Chunk) -> TrackRequest:
    track = claimed.track
    return TrackRequest(
        id=track.id,
        path=track.path,
        models=tuple(claimed.results),
        checkpoint=chunks.checkpoint_name(claimed, chunk.spaces),
    )


def _file_is_missing(outcome: TrackOutcome) -> bool:
    return any(failure.error_class == AudioFileMissing.__name__ for failure in outcome.failures.values())


def _library_away(outcomes: Sequence[TrackOutcome], chunk: chunks.Chunk) -> LibraryUnavailable | None:
    """A file that is gone may mean that the whole share is: then the job waits and no track fails."""
    missing = {outcome.id for outcome in outcomes if _file_is_missing(outcome)}
    paths = [Path(claimed.track.path) for claimed in chunk.tracks if claimed.track.id in missing]
    try:
        roots = open_library().roots() if paths else []
    except LibraryUnavailable as error:
        return error
    for root in roots:
        if any(path.is_relative_to(root) for path in paths) and _is_empty(root):
            return LibraryUnavailable(f"the music folder {root} is empty or not mounted")
    return None


def _is_empty(root: Path) -> bool:
    try:
        return not any(root.iterdir())
    except OSError:
        return True
