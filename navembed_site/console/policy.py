"""What browsers may load and run in the console."""

from __future__ import annotations

from collections.abc import Callable

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from django.http import HttpRequest, HttpResponse

CONSOLE = "/admin"
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
