"""Guesses at passwords: whose django-axes counts, what is shown after too many, and how many an address has at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from navembed_site.access import trust

NAME_CHARS = 150  # of a user's; a longer one is nobody's, and would not fit into the table of attempts
A_MINUTE = 20
"""Passwords that are compared for one network: each takes half a second of a processor, also for unknown names."""


def name_of(request: HttpRequest, credentials: Mapping[str, Any] | None = None) -> str:
    """Return the name that somebody signs in under (AXES_USERNAME_CALLABLE)."""
    given = request.POST if credentials is None else credentials
    return str(given.get("username", ""))[:NAME_CHARS]


def locked_out(request: HttpRequest, *_: Any) -> HttpResponse:
    """django-axes shows this (AXES_LOCKOUT_CALLABLE) until the time is over."""
    wait = settings.AXES_COOLOFF_TIME
    page = render(request, "locked_out.html", {"minutes": int(wait.total_seconds() // 60)}, status=429)
    page["Retry-After"] = str(int(wait.total_seconds()))
    return page


class SignInRate:
    """Answers 429 to who signs in more often than A_MINUTE, right or wrong, under any name.

    Who comes through a proxy does not use up what is left for a person on the proxy's own machine.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "POST" and request.path_info == reverse("admin:login") and _count(request) > A_MINUTE:
            page = render(request, "too_often.html", status=429)
            page["Retry-After"] = "60"
            return page
        return self.get_response(request)


def _count(request: HttpRequest) -> int:
    """Return how many times the caller's network has signed in within this minute, this time included."""
    way = "proxy" if trust.is_proxied(request) else "direct"
    key = f"sign-in-{way}-{trust.neighbourhood(request)}-{int(time.time() // 60)}"
    cache.add(key, 0, 60)
    return cache.incr(key)
