"""What browsers may load and run in the console, and what they may ask it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse, QueryDict

CONSOLE = "/admin"
PANEL = "/panel"
RELAXED = {"script-src": [UNSAFE_EVAL], "style-src": [UNSAFE_INLINE], "media-src": [SELF]}


class ConsolePolicy:
    """Relaxes the policy for the console alone.

    Its theme runs on Alpine, which makes functions of attributes and sets styles. Inline scripts stay forbidden, and
    no page puts data into an attribute that Alpine reads.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path_info == CONSOLE or request.path_info.startswith(f"{CONSOLE}/"):
            response._csp_update = RELAXED  # type: ignore[attr-defined]  # django-csp reads it
        return response


class NoNul:
    """Answers 400 to a NUL in what the console is asked: PostgreSQL takes none, and nobody types one.

    Who is not signed in is led to the sign-in, which counts any name as a wrong one.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Any, positional: Any, named: dict[str, Any]) -> None:
        if not (request.path_info.startswith((CONSOLE, PANEL)) and request.user.is_authenticated):
            return
        if any("\0" in text for text in (*map(str, named.values()), *_texts(request.GET), *_texts(request.POST))):
            raise BadRequest("what is asked for holds a NUL")


def _texts(form: QueryDict) -> list[str]:
    return [text for name, values in form.lists() for text in (name, *values)]
