"""What is refused before any view is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse, JsonResponse

from navembed_site.access import hosts
from navembed_site.rest.problems import problem_response

GetResponse = Callable[[HttpRequest], HttpResponse]
HEALTH = "/healthz"
PIECE = 2**16
MEMORY = 2**20  # of a chunked body; what is longer goes into a file


class OurHosts:
    """Answers 400 to calls under a name that is not ours; health checks may come under any, or none."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info == HEALTH:
            request.META["HTTP_HOST"] = "localhost"
        elif not hosts.is_ours(request.get_host()):
            raise DisallowedHost(f"{request.get_host()} is none of our names; see NAVEMBED_ALLOWED_HOSTS.")
        return self.get_response(request)


class BodyLimit:
    """Answers 413 to a body that is larger than its view takes: ``body_limit`` bytes, if the view says so.

    What names its length is not read for that. A chunked body does not, and Django would take it for empty: it is
    read here, as far as the limit, and gets a length.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return self.get_response(request)
        finally:
            if "HTTP_TRANSFER_ENCODING" in request.META:
                request._stream.close()

    def process_view(self, request: HttpRequest, view: Any, *_: Any) -> HttpResponse | None:
        limit = _limit(view)
        if "HTTP_TRANSFER_ENCODING" in request.META:
            _read_chunks(request, limit)
        if int(request.META.get("CONTENT_LENGTH") or 0) <= limit:
            return None
        sentence = f"The body is larger than the {limit:,} bytes that are taken here."
        if _is_contract(view):
            return JsonResponse({"error": sentence}, status=413)
        return problem_response(request, 413, sentence)


def _limit(view: Any) -> int:
    default = settings.CONTRACT_BODY_BYTES if _is_contract(view) else settings.BODY_BYTES
    limit: int = getattr(_class_of(view), "body_limit", default)
    return limit


def _is_contract(view: Any) -> bool:
    return getattr(_class_of(view), "contract", False)


def _class_of(view: Any) -> Any:
    return getattr(view, "cls", None)  # of DRF's; the console has functions


def _read_chunks(request: HttpRequest, limit: int) -> None:
    """Read the body until its end, or until it is longer than ``limit``; its length stands in the request then."""
    stream = request.META["wsgi.input"]
    body = tempfile.SpooledTemporaryFile(max_size=MEMORY)  # noqa: SIM115  (closed with the request)
    request._stream = cast("BinaryIO", body)  # Django's own is empty without a length
    while body.tell() <= limit and (piece := stream.read(PIECE)):
        body.write(piece)
    request.META["CONTENT_LENGTH"] = str(body.tell())
    body.seek(0)
