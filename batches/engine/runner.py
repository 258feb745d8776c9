"""The loop of a device: claim a chunk, have it embedded, commit it, index it; again, until the job has ended.

The next chunk is claimed, and the embedder has it, while the last one is computed, committed and indexed.

Slow work (embedder, Milvus, files) happens outside transactions; every write is fenced by the lease. What keeps one
device from working holds up the job only when no other device goes on with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

from django.db import Error as DatabaseError

from batches import services
from batches.engine import chunks, completion, deaths, hosts
from batches.engine.database_wait import DatabaseWait
from batches.engine.deaths import EmbedderHung
from batches.engine.in_hand import ChunkInHand
from batches.engine.known_audio import KnownAudio
from batches.engine.leases import DeviceLease, LeaseLost, Looks, free_abandoned, take, take_job
from batches.engine.music import Music, watch
from batches.engine.plan import plan
from batches.engine.pulse import LOOK_SECONDS, Interrupted, Pulse, is_wanted, require_wanted, tell_work
from batches.engine.spent import Spent
from batches.models import BatchJob
from embeddings.embedder.client import EmbedderClient, End, Heartbeat
from embeddings.embedder.work import Step, TrackOutcome
from embeddings.errors import (
    NOT_LOADABLE,
    OF_ONE_HOST,
    EmbedderDied,
    EmbedderUnavailable,
    FingerprintChanged,
)
from embeddings.library import has_library
from navembed_site.errors import NavembedError
from navembed_site.process.slow_calls import RaiseIfStopped
from navembed_site.process.stopping import stop_requested

logger = logging.getLogger(__name__)

SLICE_SECONDS = 120.0  # then the task ends and a new message goes on: Django-Q recycles its workers
MAX_PAUSE_SECONDS = 60.0
EMBEDDER_PAUSE_SECONDS = 4.0
HANG_SECONDS = 120.0  # without a device batch …
HANG_FACTOR = 20.0  # … and so many times what the whole chunk should take


def run_device(device_id: int, seq: int) -> str:
    """Work on the active job until the time slice is over or nothing is left to do. Returns how it ended."""
    lease = take(device_id, seq)
    if lease is None:
        return "stale"
    try:
        ended = _TimeSlice(lease).run()
    except LeaseLost as error:
        logger.warning("%s", error)
        return "lost"
    lease.release()
    return "idle" if ended else "goes on"


class _TimeSlice:
    """One task's worth of work with a device."""

    def __init__(self, lease: DeviceLease) -> None:
        self.lease = lease
        self.client = EmbedderClient(lease.device.index)
        self.deadline = time.monotonic() + SLICE_SECONDS
        self.pause = 1.0
        self.begun = False
        self.database = DatabaseWait()
        self.known = KnownAudio(self.client, lease)
        self.music = Music()
        self.lacks: dict[str, NavembedError] = {}  # models that only others can load, and why
        self.looks = Looks()
        self.spent = Spent()
        self.behind = True  # Milvus may lack something that an earlier slice has committed

    def run(self) -> bool:
        """Work until the deadline, at least one step; True when no job has work for a device."""
        while not stop_requested():
            try:
                job = services.active_job()
                if job is None or job.status == BatchJob.Status.PAUSED:
                    return True
                self._step(job)
                self.database.is_over()
            except DatabaseError as error:
                self.database.sleep(error)
                self.begun = False  # what was claimed is queued again
                continue
            if time.monotonic() >= self.deadline:
                break
        return False

    def _step(self, job: BatchJob) -> None:
        """Take the job one step further; what stands in its way makes it wait, or fail."""
        try:
            if not self.begun:
                chunks.release_abandoned(job, self.lease)
                self.begun = True
            self._advance(job)
            self.pause = 1.0
        except (LeaseLost, DatabaseError):
            raise
        except Interrupted:
            pass  # the next step sees what is wanted
        except NavembedError as error:
            self._wait_or_fail(job, error)
        except Exception as error:
            logger.exception("job %d cannot go on", job.pk)
            services.set_failed(job, f"{type(error).__name__}: {error}")

    def _advance(self, job: BatchJob) -> None:
        if job.status not in BatchJob.ADVANCING:
            self._come_to_rest(job)
        elif not job.planned and not has_library() and hosts.another_works(self.lease.device):
            self._sleep(1.0, job)
        elif not job.planned:
            self._with_job(job, self._plan)
        elif self.behind:
            self._catch_up(job)
        elif chunk := self._claim(job):
            self._run_chunk(job, chunk)
        elif chunks.is_left(job):
            free_abandoned(job, self.looks)
            self._require_all()
            self._sleep(1.0, job)  # a track waits for its next attempt, or another device has the last ones
        else:
            self._with_job(job, self._complete)

    def _require_all(self) -> None:
        """Raise what keeps this device from claiming what is left."""
        self.music.require()
        for error in self.lacks.values():
            raise error

    def _with_job(self, job: BatchJob, step: Callable[[BatchJob, RaiseIfStopped], None]) -> None:
        """Do what only one device may do at a time; the others wait for it."""
        lease = take_job(job, self.lease.device, self.looks)
        if lease is None:
            self._sleep(1.0, job)
            return

        def raise_if_stopped() -> None:
            lease.renew()
            self._raise_if_stopped(job)

        try:
            if job.status in BatchJob.ADVANCING:  # still
                step(job, raise_if_stopped)
                hosts.tell_problem(self.lease.device, "")
        except LeaseLost as error:
            self.lease.renew()  # raises when the device is lost, too
            logger.warning("%s", error)
        finally:
            with suppress(DatabaseError):  # then this device takes it again, or it runs out
                lease.end()

    def _plan(self, job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
        if not job.planned:
            plan(job, self.lease, raise_if_stopped, partial(services.set_planning, job))
            services.set_planning(job, "")

    def _complete(self, job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
        if job.planned and not chunks.is_left(job):
            completion.complete(job, raise_if_stopped)

    def _come_to_rest(self, job: BatchJob) -> None:
        """Pause or cancel, once no device has a chunk in hand."""
        if chunks.is_in_hand(job):
            self.lease.renew()
            free_abandoned(job, self.looks)
            time.sleep(0.2)
        elif job.status == BatchJob.Status.PAUSING:
            services.set_paused(job)
        else:
            services.set_cancelled(job)

    def _catch_up(self, job: BatchJob) -> None:
        """Bring Milvus up to what is committed, before more is computed; the first time, compare everything."""
        raise_if_stopped = partial(self._raise_if_stopped, job)
        completion.index(job, raise_if_stopped)
        completion.reconcile_once(job, raise_if_stopped)
        completion.point_aliases(raise_if_stopped)
        self.behind = False

    def _run_chunk(self, job: BatchJob, chunk: chunks.Chunk) -> None:
        """Embed a chunk, and those that follow it as long as nothing is in the way.

        The embedder has the next one already while what became of this one is committed and sent to Milvus.
        """
        if not self.lease.device.problem:  # else it is to show first that it can
            services.set_running(job)
        work: ChunkInHand | None = self._begin(job, chunk)
        while work:
            ahead, goes_on = None, False
            with closing(work):
                try:
                    ahead = self._begin_next(job, work)
                    goes_on = self._finish(job, work)
                finally:
                    if ahead and not goes_on:
                        self._give_back(job, ahead)
            work = ahead if goes_on else None

    def _begin(self, job: BatchJob, chunk: chunks.Chunk) -> ChunkInHand:
        """Have a chunk's files at hand, settle what is known, and give the rest to the embedder."""
        work = ChunkInHand(self.client, chunk)
        try:
            with self.spent.at("embedder"):
                work.files = work.at_hand.enter_context(self.music.at_hand(chunk, Pulse(job, self.lease).beat))
                work.chunk = self.known.settle(job, work)
                work.ask()
        except (Interrupted, NavembedError) as error:
            work.problem = error
        except BaseException:
            work.close()
            raise
        return work

    def _begin_next(self, job: BatchJob, before: ChunkInHand) -> ChunkInHand | None:
        """Give the embedder the chunk after ``before``; not beside tracks that are suspected of its death."""
        if before.problem or before.chunk.is_suspect or time.monotonic() >= self.deadline or stop_requested():
            return None
        try:
            chunk = self._claim(job)
            if chunk and not chunk.is_suspect:
                return self._begin(job, chunk)
            if chunk:
                chunks.release(chunk, self.lease)
        except NavembedError:
            pass  # the next step meets it again
        except DatabaseError as error:  # what is in hand goes on meanwhile
            logger.warning("the database is away while a chunk runs: %s", error)
            self.begun = False
        return None

    def _claim(self, job: BatchJob) -> chunks.Chunk | None:
        return chunks.claim(job, self.lease, but_libraries=self.music.away, but_models=self.lacks)

    def _give_back(self, job: BatchJob, work: ChunkInHand) -> None:
        """Commit what the embedder has done of a chunk that nobody goes on with, and queue the rest again."""
        work.close()
        self.behind = True
        done = [outcome for outcome in work.outcomes if not outcome.failures]
        with suppress(FingerprintChanged):
            self.database.retry(lambda: chunks.commit(job, self.lease, work.chunk, done))
        self.database.retry(lambda: chunks.release(work.chunk, self.lease))
        with suppress(NavembedError):
            completion.index(job, self.lease.renew)
            self.behind = False

    def _finish(self, job: BatchJob, work: ChunkInHand) -> bool:
        """Commit what becomes of a chunk, and send it to Milvus; returns whether the next one may follow."""
        problem, seconds = work.problem, 0.0
        if not problem:
            try:
                with self.spent.at("embedder"):
                    seconds = self._listen(job, work)
            except (Interrupted, NavembedError) as error:
                problem = error
        work.close()
        chunk, outcomes = work.chunk, work.outcomes
        if away := self.music.look(chunk, outcomes, problem):
            problem = None  # the next claims are of what can be read
            outcomes = [outcome for outcome in outcomes if outcome.id not in away]
        if given_up := self.music.gone(chunk, outcomes):
            self.database.retry(lambda: chunks.set_aside(job, self.lease, chunk, given_up))
        self.behind = True
        try:
            with self.spent.at("database"):
                self.database.retry(lambda: chunks.commit(job, self.lease, chunk, outcomes, seconds))
        except FingerprintChanged as error:
            problem = error
        if isinstance(problem, EmbedderDied):
            self._judge(job, work, problem)
        self.database.retry(lambda: chunks.release(chunk, self.lease))
        if isinstance(problem, NavembedError):
            raise problem
        if problem is None and not away:
            tell_work(job, self.lease.device)
        with self.spent.at("index"):  # also of a job that stops: it is little, and search should have it
            completion.index(job, self.lease.renew)
        self.spent.write(job)
        self.behind = False
        return problem is None and not away and is_wanted(job)

    def _listen(self, job: BatchJob, work: ChunkInHand) -> float:
        """Collect the outcomes of a chunk; returns the seconds of work."""
        names = {claimed.track.id: str(claimed.track) for claimed in work.chunk.tracks}
        pulse, storage = Pulse(job, self.lease), watch(work.chunk)
        # A device that is slow is not one that hangs: what is allowed grows with the work and the measured rate.
        most = HANG_SECONDS + HANG_FACTOR * sum(claimed.estimated_seconds for claimed in work.chunk.tracks)
        for event in work.events():
            match event:
                case TrackOutcome():
                    storage.forget(event.id)
                case Step():
                    pulse.current = f"[{event.model}] {names[event.track_id]}"
                case End():
                    self.spent.add("decode", event.decode_seconds)
                    self.spent.add("device", event.device_seconds)
                    return event.seconds
                case Heartbeat() if event.idle_seconds > most:
                    raise EmbedderHung(f"hung the embedder for {most:.0f} s")
                case Heartbeat():
                    storage.look(event.idle_seconds)
            pulse.beat()
        raise AssertionError("an answer ends with an End, or raises")

    def _judge(self, job: BatchJob, work: ChunkInHand, death: EmbedderDied) -> None:
        """Blame the chunk if the embedder has died of it."""

        def wait(message: str, condition: Callable[[], bool], seconds: float) -> bool:
            if not self._is_held_up_alone(message):
                services.set_waiting(job, message)
            until = time.monotonic() + seconds
            while not (holds := condition()) and time.monotonic() < until:
                self._sleep(0.5, job)
                require_wanted(job)
            return holds

        out_of_memory = work.is_out_of_memory()
        with suppress(Interrupted):
            if deaths.is_chunks_fault(self.client, work.pid, death, wait):
                reason = deaths.reason_of(death, out_of_memory=out_of_memory)
                self.database.retry(lambda: chunks.blame(job, self.lease, work.chunk, reason))

    def _wait_or_fail(self, job: BatchJob, error: NavembedError) -> None:
        is_new = bool(error.model) and error.model not in self.lacks
        if is_new and job.planned and isinstance(error, OF_ONE_HOST) and hosts.another_works(self.lease.device):
            self.lacks[error.model] = error  # this device goes on with the other models as long as there is work
            return
        self.lacks.pop(error.model, None)
        if not (isinstance(error, OF_ONE_HOST) and self._is_held_up_alone(str(error))):
            if error.model and isinstance(error, NOT_LOADABLE):
                services.leave_out(job, error.model, str(error))
                return
            if error.permanent:
                services.set_failed(job, str(error))
                return
            services.set_waiting(job, str(error), self.pause)
        logger.warning("job %d waits %.0f s: %s", job.pk, self.pause, error)
        self._sleep(self.pause, job)
        # An embedder is of this machine and soon back; Milvus or a share may be away for hours.
        longest = EMBEDDER_PAUSE_SECONDS if isinstance(error, EmbedderUnavailable) else MAX_PAUSE_SECONDS
        self.pause = min(longest, self.pause * 2)

    def _is_held_up_alone(self, problem: str) -> bool:
        """Show what keeps this device from working; returns whether another one goes on with the job."""
        hosts.tell_problem(self.lease.device, problem)
        return hosts.another_works(self.lease.device)

    def _raise_if_stopped(self, job: BatchJob) -> None:
        """Renew the lease; raise Interrupted when the job or the worker is to stop."""
        self.lease.renew()
        require_wanted(job)

    def _sleep(self, seconds: float, job: BatchJob) -> None:
        """Sleeps and keeps the lease; ends early when the job is to stop."""
        until = time.monotonic() + seconds
        with suppress(Interrupted):
            while time.monotonic() < until:
                self._raise_if_stopped(job)
                time.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))
