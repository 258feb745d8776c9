"""A small page for those whose Navidrome has no panel of its own: start, progress, cancel, and words to search by."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from batches import services
from batches.events import Who
from batches.models import BatchJob
from batches.requests import JobRequest
from embeddings.encoders.registry import ENCODERS
from navembed_site.console import looks
from navembed_site.console.pages import change, page
from navembed_site.console.start import usual_models

VIA = "panel"


@page("console/panel.html", parts=("panel_job",))
def panel(request: HttpRequest) -> dict[str, Any]:
    """The job in hand, else the newest, and a form for another one."""
    jobs = looks.open_and_last_jobs()
    return {
        "title": "Panel",
        "look": looks.in_hand(jobs) or next(iter(jobs), None),
        "models": [(encoder.key, encoder.label) for encoder in ENCODERS],
        "chosen": usual_models(),
    }


@change()
def start(request: HttpRequest) -> str:
    """Start a job, or join the unfinished one that does the same."""
    wanted = JobRequest(request.POST.getlist("models"), clear_existing="clear" in request.POST)
    job = services.start_or_join(wanted, started_by=request.user.get_username(), via=VIA)
    return f"Job {job.pk} is under way"


@change()
def cancel(request: HttpRequest) -> str:
    """Cancel the unfinished job and all that are queued behind it."""
    job: BatchJob = services.cancel_all(who=Who(request.user.get_username(), VIA))
    return f"Job {job.pk} stops; what it has done is kept"
