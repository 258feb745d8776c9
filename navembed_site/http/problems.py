"""Errors under /api/ have one shape: problem details as of RFC 9457. The contract's routes keep ``{"error": …}``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.core.exceptions import BadRequest, DisallowedHost, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.template.loader import render_to_string
from django.views import defaults
from rest_framework import exceptions, status
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import exception_handler

from navembed_site.database.health import watch
from navembed_site.database.trouble import trouble_of
from navembed_site.errors import NavembedError

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
WRONG_NAME = "this host name is not allowed; see NAVEMBED_ALLOWED_HOSTS"
UNEXPECTED = "something went wrong in the server; its log says what"
Errors = dict[str, list[str]]


class Conflict(exceptions.APIException):
    """What is asked for does not fit the state that things are in."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class TooLarge(exceptions.APIException):
    """The body is larger than we take."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"
    default_detail = "the body is too large"


class Unprocessable(exceptions.APIException):
    """The body is well-formed, but nothing can be made of what it holds."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "unprocessable"


class Unexpected(exceptions.APIException):
    """A fault of ours; what exactly is for the log alone."""

    status_code = status.HTTP_500_INTERNAL_SERVER_ERROR
    default_code = "unexpected"
    default_detail = UNEXPECTED


class Unavailable(exceptions.APIException):
    """Something that is needed for the answer is away."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"


ANSWERS: dict[tuple[type[Exception], ...], Callable[[], exceptions.APIException]] = {
    (Http404,): lambda: exceptions.NotFound("there is nothing of this name"),
    (PermissionDenied,): exceptions.PermissionDenied,
    (RequestDataTooBig,): TooLarge,
    (UnreadablePostError,): lambda: exceptions.ParseError("the body did not come whole"),
    (SuspiciousOperation, BadRequest): exceptions.ParseError,
    (OperationalError, InterfaceError): lambda: Unavailable("the database does not answer"),
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """Turn what a view raised into an answer; Django REST framework calls it (EXCEPTION_HANDLER)."""
    request = context["request"]
    known = _known(error)
    if isinstance(known, Unexpected):
        logger.error("%s %s failed", request.method, request.path, exc_info=error)
    response = exception_handler(known, context)
    if response is None:
        return None
    if getattr(context["view"], "contract", False):
        response.data = {"error": sentence(known.detail)}
        return response
    errors = _by_field(known.detail) if isinstance(known, exceptions.ValidationError) else None
    code = "invalid" if errors else known.default_code
    response.data = problem(known.status_code, sentence(known.detail), request.path, code=code, errors=errors)
    response.content_type = MEDIA_TYPE
    request.accepted_renderer, request.accepted_media_type = JSONRenderer(), MEDIA_TYPE  # whatever was asked for
    return response


def problem(
    status_code: int, detail: str, path: str, *, code: str = "", errors: Errors | None = None
) -> dict[str, Any]:
    """Return the body of a problem; ``errors`` are sentences by the field that they are about."""
    title = HTTPStatus(status_code).phrase
    body: dict[str, Any] = {
        "type": f"urn:navembed:problem:{code or title.lower().replace(' ', '_')}",
        "title": title,
        "status": status_code,
        "detail": detail,
        "instance": path,
    }
    return body | ({"errors": errors} if errors else {})


def problem_response(request: HttpRequest, status_code: int, detail: str) -> JsonResponse:
    """Return a problem for middlewares and for what reaches no view."""
    body = problem(status_code, detail, request.path)
    return JsonResponse(body, status=status_code, content_type=MEDIA_TYPE)


def _known(error: Exception) -> exceptions.APIException:
    """Return the answer that an error stands for; of one that nobody expects nothing is told."""
    if isinstance(error, exceptions.APIException):
        return error
    if isinstance(error, NavembedError) and error.unprocessable:
        return Unprocessable(str(error))
    if isinstance(error, NavembedError):
        return Conflict(str(error)) if error.permanent else Unavailable(str(error))
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("The database does not answer: %s", error)
    elif trouble := trouble_of(error):
        logger.error("%s", trouble)
        return Unavailable(f"the database {trouble.what}")
    return next((answer() for kinds, answer in ANSWERS.items() if isinstance(error, kinds)), Unexpected())


def sentence(detail: Any) -> str:
    """Flatten an error's details to one readable line."""
    if isinstance(detail, dict):
        return "; ".join(f"{field}: {sentence(inner)}" for field, inner in detail.items() if inner)
    if isinstance(detail, list):
        return " ".join(filter(None, map(sentence, detail)))
    return str(detail)


def _by_field(detail: Any, field: str = "") -> Errors:
    """Return a validation error's sentences by field; ``models.0`` is the first of ``models``."""
    if isinstance(detail, dict):
        inner = [_by_field(value, f"{field}.{name}" if field else str(name)) for name, value in detail.items()]
        return {name: sentences for errors in inner for name, sentences in errors.items()}
    sentences = detail if isinstance(detail, list) else [detail]
    return {field or "non_field_errors": [sentence(each) for each in sentences]}


# What reaches no view of ours: Django's handler400 to handler500.


PAGES = ("/admin", "/panel", "/setup/", "/static/")
PROGRAMS = ("/batch", "/embed/", "/embed_text", "/health", "/metrics", "/models", "/playlist")


def is_browser(request: HttpRequest) -> bool:
    """Whether somebody looks at pages; programs take anything, or JSON."""
    return "text/html" in request.headers.get("Accept", "")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    wrong_name = isinstance(exception, DisallowedHost)
    sentence = WRONG_NAME if wrong_name else "this is not a request that we can read"
    return _answer(request, status.HTTP_400_BAD_REQUEST, sentence) or defaults.bad_request(
        request, exception, "400_name.html" if wrong_name else "400.html"
    )


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    sentence = "you may not do this"
    return _answer(request, status.HTTP_403_FORBIDDEN, sentence) or defaults.permission_denied(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    sentence = "there is nothing at this address"
    return _answer(request, status.HTTP_404_NOT_FOUND, sentence) or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    if trouble := trouble_of(sys.exc_info()[1]) or watch.trouble():
        return _answer(request, status.HTTP_503_SERVICE_UNAVAILABLE, f"the database {trouble.what}") or HttpResponse(
            render_to_string("503.html", {"what": trouble.what}), status=status.HTTP_503_SERVICE_UNAVAILABLE
        )
    return _answer(request, status.HTTP_500_INTERNAL_SERVER_ERROR, UNEXPECTED) or defaults.server_error(request)


def _answer(request: HttpRequest, status_code: int, sentence: str) -> JsonResponse | None:
    """Return the answer for a program; None where people look at pages."""
    if request.path.startswith("/api/"):
        return problem_response(request, status_code, sentence)
    if request.path.startswith(PAGES) or (is_browser(request) and not request.path.startswith(PROGRAMS)):
        return None
    return JsonResponse({"error": sentence}, status=status_code)
