"""What is refused before any view is asked."""

from __future__ import annotations

from collections.abc import Callable

from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from navembed_site.access import hosts

GetResponse = Callable[[HttpRequest], HttpResponse]
HEALTH = "/healthz"


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
