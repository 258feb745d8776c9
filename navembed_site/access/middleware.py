"""What is refused before any view is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import Resolver404, resolve, reverse

from navembed_site.access import hosts
from navembed_site.http.problems import problem_response
from navembed_site.http.uploads import UploadHandler

GetResponse = Callable[[HttpRequest], HttpResponse]
HEALTH = "healthz"


class OurHosts:
    """Answers 400 to calls under a name that is not ours; health checks may come under any, or none."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == reverse(HEALTH):
            request.META["HTTP_HOST"] = "localhost"
        elif not hosts.is_ours(request.get_host()):
            raise DisallowedHost(f"{request.get_host()} is none of our names; see NAVEMBED_ALLOWED_HOSTS.")
        return self.get_response(request)


class BodyLimit:
    """Answers 413 to a body that is larger than its view takes: ``body_limit`` bytes, if the view says so.

    And 411 to one that does not name its length: Django takes it for empty, and a chunked one that breaks off, or
    cannot be understood, looks to us as if it were whole. Uploaded files go with their request.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            for handler in request.upload_handlers:
                if isinstance(handler, UploadHandler):
                    handler.forget()

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponse | None:
        if "HTTP_TRANSFER_ENCODING" in request.META:
            return _refusal(request, view, 411, "The body must come with a Content-Length, and not in chunks.")
        limit = _limit(view)
        if int(request.META.get("CONTENT_LENGTH") or 0) <= limit:
            return None
        return _refusal(request, view, 413, f"The body is larger than the {limit:,} bytes that are taken here.")


def _refusal(request: HttpRequest, view: Any, status: int, sentence: str) -> HttpResponse:
    if _is_contract(view):
        return JsonResponse({"error": sentence}, status=status)
    return problem_response(request, status, sentence)


def body_limit(path: str) -> int:
    """Return how many bytes a body may have that is sent to ``path``."""
    try:
        return _limit(resolve(path).func)
    except Resolver404:
        return int(settings.BODY_BYTES)


def _limit(view: Any) -> int:
    default = settings.CONTRACT_BODY_BYTES if _is_contract(view) else settings.BODY_BYTES
    limit: int = getattr(_class_of(view), "body_limit", default)
    return limit


def _is_contract(view: Any) -> bool:
    return getattr(_class_of(view), "contract", False)


def _class_of(view: Any) -> Any:
    return getattr(view, "cls", None)  # of DRF's; the console has functions
