"""Weak ETags: a client that polls sends the tag of the answer it has, and gets 304 while nothing has changed.

Ours, because Django's ``get_conditional_response`` answers ``If-Match``, too, by a 412 without the shape of our errors.
"""

from __future__ import annotations

from hashlib import blake2b

from django.utils.http import parse_etags
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response


def etag_of(state: object) -> str:
    """Return the tag of a representation, or of cheap values of which each change of it is a change."""
    return f'W/"{blake2b(repr(state).encode(), digest_size=12).hexdigest()}"'


def not_modified(request: Request, tag: str) -> Response | None:
    """Return the 304 when the caller has what ``tag`` names."""
    known = {known.removeprefix("W/") for known in parse_etags(request.headers.get("If-None-Match", ""))}
    if known.isdisjoint(("*", tag.removeprefix("W/"))):
        return None
    return Response(status=status.HTTP_304_NOT_MODIFIED, headers=_headers(tag))


def tagged(data: object, tag: str) -> Response:
    """Return the answer of which ``not_modified`` spares the caller a second time."""
    return Response(data, headers=_headers(tag))


def _headers(tag: str) -> dict[str, str]:
    return {"ETag": tag, "Cache-Control": "private, no-cache"}
