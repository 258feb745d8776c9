"""What has failed and has no vector: why, since when, and what can be done."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Count, F, Max, Min, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from batches.requests import JobRequest
from batches.selectors.problems import KIND, passing_failures
from embeddings.library.bad_files import bad_files, ignore
from navembed_site.console import words
from navembed_site.console.jobs import reason_of, start_for
from navembed_site.console.pages import change, page
from navembed_site.errors import NavembedError

REASONS_SHOWN = 50
FILES_SHOWN = 50
PASSING, BAD, IGNORED = "passing", "bad", "ignored"
OPEN = (BAD, PASSING)


@page("console/problems.html")
def problems(request: HttpRequest) -> dict[str, Any]:
    """Reasons, the most frequent first; with ``?message=`` the files behind one of them."""
    sort = request.GET.get("show", "")
    context: dict[str, Any] = {"title": "Problems", "is_ignored": sort == IGNORED}
    if "message" in request.GET:
        rows = _behind(request, sort).order_by("track__path", "model")
        context |= {"reason": request.GET["message"], "sort": sort}
        return context | {"page": Paginator(rows, FILES_SHOWN).get_page(request.GET.get("page"))}
    groups = [group for each in ((IGNORED,) if sort == IGNORED else OPEN) for group in _reasons(each)]
    groups.sort(key=lambda group: (-group["files"], group["message"]))
    return context | {"reasons": Paginator(groups, REASONS_SHOWN).get_page(request.GET.get("page"))}


def _problems(sort: str) -> QuerySet[Any]:
    """Return what has failed: bad files, acknowledged ones, or what the next job tries again by itself."""
    if sort == PASSING:
        return passing_failures().annotate(since=F("finished_at"))
    return bad_files().filter(ignored=sort == IGNORED).annotate(since=F("failed_at"))


def _reasons(sort: str) -> list[dict[str, Any]]:
    rows = _problems(sort).order_by().values("error_class", message=KIND)
    found = rows.annotate(
        files=Count("track", distinct=True), first=Min("since"), last=Max("since"), example=Min("track__path")
    )
    return [group | {"sort": sort} for group in found]


def _behind(request: HttpRequest, sort: str) -> QuerySet[Any]:
    """Return what is asked for of a sort of problems: of one reason, track or model, or all."""
    asked = request.POST or request.GET
    chosen = {name: asked[name] for name in ("track", "model") if name in asked}
    return _problems(sort).filter(**reason_of(asked), **chosen)


@change()
def ignore_these(request: HttpRequest) -> str:
    """Count them no more, until they change."""
    return words.ignored_text(ignore(_behind(request, BAD)))


@change()
def notice_these(request: HttpRequest) -> str:
    count = ignore(_behind(request, IGNORED), ignored=False)
    return f"{count:,} {'file counts' if count == 1 else 'files count'} again"


@change()
def retry(request: HttpRequest) -> HttpResponseBase:
    """Start a job that tries again what has failed, and nothing else: all of it, of a model, a reason, or one file."""
    models = {model for sort in OPEN for model in _behind(request, sort).order_by().values_list("model", flat=True)}
    if not models:
        raise NavembedError("nothing of this has failed any more")
    track, message = (request.POST.get(name, "") for name in ("track", "message"))
    wanted = JobRequest(
        sorted(models), only_failed=True, failed_with=message, only_track=track, retry_bad_files=True
    )  # fmt: skip
    return start_for(request, wanted)
