"""Files that have no vector: why, since when, and what can be done."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, F, Max, Min, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from batches.requests import JobRequest
from embeddings.library.bad_files import bad_files, ignore
from embeddings.models import BadFile
from navembed_site.console import words
from navembed_site.console.jobs import start_for
from navembed_site.console.pages import change, page

REASONS_SHOWN = 50
FILES_SHOWN = 50


@page("console/problems.html")
def problems(request: HttpRequest) -> dict[str, Any]:
    """Reasons, the most frequent first; with ``?message=`` the files behind one of them."""
    is_ignored = request.GET.get("show") == "ignored"
    found = bad_files().filter(ignored=is_ignored)
    context: dict[str, Any] = {"title": "Problems", "is_ignored": is_ignored}
    if "message" in request.GET:
        rows = _behind(found, request.GET).order_by("track__path", "model")
        context |= {"reason": request.GET["message"], "kind": request.GET.get("class", "")}
        return context | {"page": Paginator(rows, FILES_SHOWN).get_page(request.GET.get("page"))}
    reasons = found.order_by().values("error_class", "error_message")
    reasons = reasons.annotate(
        files=Count("track", distinct=True), first=Min("failed_at"), last=Max("failed_at"), example=Min("track__path")
    )
    ordered = reasons.order_by("-files", "error_message")
    return context | {"reasons": Paginator(ordered, REASONS_SHOWN).get_page(request.GET.get("page"))}


def _behind(files: QuerySet[BadFile], asked: Any) -> QuerySet[BadFile]:
    names = {"class": "error_class", "message": "error_message", "track": "track_id"}
    return files.filter(**{field: asked[name] for name, field in names.items() if name in asked})


@change()
def ignore_these(request: HttpRequest) -> str:
    """Count them no more, until they change."""
    return words.ignored_text(_mark(request, ignored=True))


@change()
def notice_these(request: HttpRequest) -> str:
    count = _mark(request, ignored=False)
    return f"{count:,} {'file counts' if count == 1 else 'files count'} again"


@change()
def retry_all(request: HttpRequest) -> HttpResponseBase:
    """Start a job that tries bad files again, besides what is missing."""
    models = request.POST.getlist("model")
    return start_for(request, JobRequest(models, retry_bad_files=True))


def _mark(request: HttpRequest, *, ignored: bool) -> int:
    chosen = _behind(bad_files().filter(ignored=not ignored), request.POST)
    tracks = set(chosen.order_by().values_list(F("track_id"), flat=True))
    return ignore(tracks, ignored=ignored) if tracks else 0
