"""Jobs: the list, one job, what can be done with it."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import groupby
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, Exists, Max, Min, QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse

from batches import services
from batches.events import Who, text_of
from batches.models import BatchJob, JobEvent, TrackResult
from batches.requests import JobRequest
from batches.selectors.problems import KIND, SAME
from embeddings.library.bad_files import bad_files, ignore
from navembed_site.console import looks, pace, words
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError

VIA = "console"
JOBS_SHOWN = 25
REASONS_SHOWN = 20
FILES_SHOWN = 100


@page("console/jobs.html", parts=("job_list",))
def jobs(request: HttpRequest) -> dict[str, Any]:
    found = BatchJob.objects.prefetch_related("progress")
    if (status := request.GET.get("status", "")) in BatchJob.Status.values:
        found = found.filter(status=status)
    shown = Paginator(found, JOBS_SHOWN).get_page(request.GET.get("page"))
    return {
        "title": "Jobs",
        "page": shown,
        "jobs": [looks.look_at(job) for job in shown],
        "status": status,
        "states": [(key, state.label) for key, state in words.STATES.items()],
    }


class JobPage:
    """One job, in parts that are asked for when a template shows them."""

    def __init__(self, job: BatchJob) -> None:
        self.job = job

    @cached_property
    def look(self) -> looks.JobLook:
        return looks.look_at(self.job)

    @cached_property
    def reasons(self) -> list[dict[str, Any]]:
        """Why tracks have failed, the most frequent first; ``bad``: of how many only somebody's asking tries again."""
        failed = TrackResult.objects.filter(job=self.job, status=TrackResult.Status.FAILED)
        found = failed.order_by().values("error_class", message=KIND)
        is_bad = Exists(bad_files().filter(**SAME, ignored=False).order_by())
        grouped = found.annotate(
            files=Count("track", distinct=True), results=Count("pk"), first=Min("finished_at"),
            last=Max("finished_at"), bad=Count("pk", filter=is_bad),
        )  # fmt: skip
        rows: Any = grouped.order_by("-results", "error_class", "message")
        return list(rows)

    @property
    def shown_reasons(self) -> list[dict[str, Any]]:
        return self.reasons[:REASONS_SHOWN]

    @property
    def more_reasons(self) -> int:
        return len(self.reasons[REASONS_SHOWN:])

    @cached_property
    def chart(self) -> pace.Chart | None:
        return pace.chart(self.job)

    @cached_property
    def deaths(self) -> int:
        """Tracks that were given up because the embedder died on them; an index finds the failed."""
        failed = self.job.results.filter(status=TrackResult.Status.FAILED, deaths__gt=0)
        return failed.values("track").distinct().count()

    @property
    def shares(self) -> list[tuple[str, float, float]]:
        """Where the devices' work took its time: where, its share in percent, its seconds."""
        job = self.job
        return _shares(
            ("in the embedder", job.embedder_seconds),
            ("in the database", job.database_seconds),
            ("in Milvus", job.index_seconds),
        )

    @property
    def stages(self) -> list[tuple[str, float, float]]:
        """What the embedders did meanwhile."""
        return _shares(("reading files", self.job.decode_seconds), ("on the device", self.job.device_seconds))

    @cached_property
    def happened(self) -> list[tuple[JobEvent, str]]:
        """What happened to the job, in the order of time, with the sentence for each."""
        return [(event, text_of(event)) for event in self.job.events.all()]

    @property
    def details(self) -> list[tuple[str, Any]]:
        """What only somebody who looks for a fault wants to know."""
        job = self.job
        found: list[tuple[str, Any]] = [
            ("planned", "whole" if job.planned else "not yet"),
            ("planned until", job.planned_until or "–"),
        ]
        found += [("plans", job.plans), ("idempotency key", job.idempotency_key or "–")]
        found += [(f"{row.model} space", row.space or "–") for row in self.look.rows]
        return found + [(f"{row.model} differences to Milvus", row.reconciled or "none") for row in self.look.rows]


def _shares(*spent: tuple[str, float]) -> list[tuple[str, float, float]]:
    total = sum(seconds for _, seconds in spent)
    return [(where, 100 * seconds / total, seconds) for where, seconds in spent] if total else []


@page("console/job.html", parts=("job", "job_pace", "job_reasons"))
def job(request: HttpRequest, pk: int) -> dict[str, Any]:
    found = get_object_or_404(BatchJob.objects.prefetch_related("progress__space"), pk=pk)
    return {"title": f"Job {found.pk}", "this": JobPage(found)}


@page("console/failures.html")
def failures(request: HttpRequest, pk: int) -> dict[str, Any]:
    """The files behind one reason, with the tracebacks."""
    found = get_object_or_404(BatchJob, pk=pk)
    rows = _failed(found, request.GET).select_related("track").order_by("track_id", "model")
    shown = Paginator(rows, FILES_SHOWN).get_page(request.GET.get("page"))
    files = [(track, list(results)) for track, results in groupby(shown, key=lambda row: row.track)]
    reason = request.GET.get("message", "")
    return {"title": f"Failures of job {found.pk}", "job": found, "page": shown, "files": files, "reason": reason}


def _failed(job: BatchJob, asked: Any) -> QuerySet[TrackResult]:
    """Return a job's failures, or those of the one reason that is asked for."""
    rows = TrackResult.objects.filter(job=job, status=TrackResult.Status.FAILED)
    return rows.filter(**reason_of(asked))


def reason_of(asked: Any) -> dict[str, str]:
    """Return what errors have in common that are asked for, as a filter."""
    names = {"class": "error_class", "message": "error_message__startswith"}
    return {field: asked[name] for name, field in names.items() if name in asked}


@change()
def pause(request: HttpRequest, pk: int) -> str:
    return _do(request, pk, services.pause_job)


@change()
def resume(request: HttpRequest, pk: int) -> str:
    return _do(request, pk, services.resume_job)


@change()
def cancel(request: HttpRequest, pk: int) -> str:
    return _do(request, pk, services.cancel_job)


@change()
def retry(request: HttpRequest, pk: int) -> str:
    return _do(request, pk, partial(services.retry_these, which=reason_of(request.POST)))


@change()
def ignore_failures(request: HttpRequest, pk: int) -> str:
    """Acknowledge the files behind one reason."""
    found = get_object_or_404(BatchJob, pk=pk)
    failed = _failed(found, request.POST).filter(**SAME)
    count = ignore(bad_files().filter(Exists(failed), ignored=False))
    if not count:
        raise NavembedError("nothing is ignored: the next job tries these again by itself")
    return words.ignored_text(count)


def _do(request: HttpRequest, pk: int, service: Any) -> str:
    found = get_object_or_404(BatchJob, pk=pk)
    service(found, who=Who(request.user.get_username(), VIA))
    state = words.STATES[BatchJob.Status(found.status)]
    return f"Job {found.pk}: {state.label.lower()}"


def start_for(request: HttpRequest, wanted: JobRequest) -> HttpResponseRedirect:
    """Start or queue a job for who asks, and lead to it. Raises as ``services.start_job``."""
    job = services.start_job(wanted, started_by=request.user.get_username(), via=VIA, queue=True)
    return HttpResponseRedirect(reverse("console:job", args=[job.pk]))
