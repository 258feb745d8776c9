"""What django-axes asks of us: whose guesses at passwords it counts, and what it shows after too many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

NAME_CHARS = 150  # of a user's; a longer one is nobody's, and would not fit into the table of attempts


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
