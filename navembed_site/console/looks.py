"""Jobs and models as pages show them: what a template would have to work out, worked out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q
from django.utils import timezone

from batches.api.v1.library import counts
from batches.models import BatchJob, ModelProgress
from batches.selectors.progress import Snapshot, snapshot
from embeddings.encoders.registry import ENCODERS, MODEL_KEYS
from embeddings.models import EmbeddingSpace
from navembed_site.console import health, words

Status = BatchJob.Status
LAST_JOBS = 5


@dataclass(frozen=True)
class JobLook:
    """A job, where it stands, and what can be done with it now."""

    job: BatchJob
    now: Snapshot
    state: words.State
    rows: list[ModelProgress]

    @property
    def sentence(self) -> str:
        """What the job says of itself, else what its state means."""
        message = self.job.message.strip()
        if self.job.status == Status.WAITING and message:
            left = (self.job.next_try_at - timezone.now()).total_seconds() if self.job.next_try_at else 0
            then = f"; tries again in {words.duration(left)}." if left >= 1 else ". It goes on by itself."
            return f"Waiting: {message.rstrip('.')}{then}"
        return message or f"{self.state.sentence}."

    @property
    def models(self) -> str:
        keys = self.job.model_keys
        return "all models" if keys == list(MODEL_KEYS) else ", ".join(keys)

    @property
    def is_open(self) -> bool:
        return self.job.is_open

    @property
    def can_pause(self) -> bool:
        return self.job.status in BatchJob.ADVANCING

    @property
    def can_resume(self) -> bool:
        return self.job.status in BatchJob.RESUMABLE

    @property
    def can_cancel(self) -> bool:
        return self.job.is_open and self.job.status != Status.CANCELLING

    @property
    def can_retry(self) -> bool:
        ended = (Status.CANCELLED, Status.FAILED, Status.COMPLETED_WITH_ERRORS)
        return self.job.status in ended and self.now.failed_operations > 0

    @property
    def done_tracks(self) -> int:
        return self.job.processed_tracks + self.job.failed_tracks

    @property
    def took(self) -> float | None:
        """Seconds from its beginning to its end."""
        job = self.job
        return (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None

    @property
    def spoken(self) -> str:
        """What a screen reader is told, rarely enough to be listened to."""
        if not self.is_open:
            return f"Job {self.job.pk}: {self.state.label}."
        return f"Job {self.job.pk}: {self.state.label}, {int(self.now.percent // 10) * 10} percent."


def look_at(job: BatchJob) -> JobLook:
    """``job.progress`` should be prefetched where there are several."""
    return JobLook(job, snapshot(job), words.STATES[Status(job.status)], list(job.progress.all()))


def open_and_last_jobs() -> list[JobLook]:
    """Return the unfinished jobs and the newest ones, the newest first."""
    newest = BatchJob.objects.order_by("-pk").values("pk")[:LAST_JOBS]
    jobs = BatchJob.objects.filter(Q(status__in=BatchJob.OPEN) | Q(pk__in=newest)).prefetch_related("progress")
    return [look_at(job) for job in jobs]


def in_hand(looks: Sequence[JobLook]) -> JobLook | None:
    """Return the active job, else the next that is queued."""
    unfinished = [look for look in looks if look.is_open]
    active = [look for look in unfinished if look.job.status != Status.QUEUED]
    return next(iter(active or unfinished[::-1]), None)


@dataclass(frozen=True)
class ModelCard:
    """A model: how much of the library it knows, whether it can work, what else there is of it."""

    key: str
    label: str
    description: str
    counts: Mapping[str, int]
    tracks: int
    problem: str
    download_bytes: int | None
    text: Any
    build: EmbeddingSpace | None
    unfinished: BatchJob | None
    """The job that was cancelled while it filled the build, and can go on."""
    kept: EmbeddingSpace | None

    @property
    def percent(self) -> float:
        return 100 * self.counts["embedded"] / self.tracks if self.tracks else 0.0


def last_jobs_of(spaces: Iterable[EmbeddingSpace]) -> dict[int | None, BatchJob]:
    """Return by space the job that filled it last."""
    rows = ModelProgress.objects.filter(space__in=spaces).select_related("job").order_by("job_id")
    return {row.space_id: row.job for row in rows}


def is_cancelled(job: BatchJob | None) -> bool:
    """Whether what the job built is not finished, though it has ended."""
    return job is not None and job.status == Status.CANCELLED


def model_cards() -> list[ModelCard]:
    """A build that an open job fills is not offered: it is not finished."""
    status, states = counts.latest(), health.models.get()
    spaces = {(space.model, space.status): space for space in EmbeddingSpace.objects.defer("recipe", "calibration")}
    builds = [space for space in spaces.values() if space.status == EmbeddingSpace.Status.BUILDING]
    fillers = last_jobs_of(builds) if builds else {}
    cards = []
    for encoder in ENCODERS:
        build = spaces.get((encoder.key, EmbeddingSpace.Status.BUILDING))
        filler = fillers.get(build.pk) if build else None
        state = states[encoder.key]
        cards.append(
            ModelCard(
                encoder.key,
                encoder.label,
                encoder.description,
                status["models"][encoder.key],
                status["playable"],
                state["problem"],
                state["download_bytes"],
                state["text"],
                build if not (filler and filler.is_open) else None,
                filler if is_cancelled(filler) else None,
                spaces.get((encoder.key, EmbeddingSpace.Status.KEPT)),
            )
        )
    return cards
