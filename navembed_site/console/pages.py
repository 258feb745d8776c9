"""What every page and every button of the console have in common."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from hashlib import blake2b
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotModified, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import parse_etags, url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from batches.services import JobConflict
from navembed_site.access.scopes import Scope, scope_of
from navembed_site.errors import NavembedError

View = Callable[..., HttpResponseBase]
REFUSALS = (JobConflict, NavembedError, ValueError)
"""What a service raises that does not do what was asked; its message is for people."""


def may(request: HttpRequest, needed: Scope) -> bool:
    """Whether somebody who is signed in may do this: the same scopes as a token's."""
    scope = scope_of(request.user)
    return scope is not None and scope.covers(needed)


def page(template: str, *, parts: tuple[str, ...] = ()) -> Callable[[Callable[..., Any]], View]:
    """Makes a page of a function that returns what its template shows, or an answer of its own.

    With ``?part=NAME`` the answer is one of its ``parts`` alone, for scripts that keep the page up to date: with an
    ETag, so that what has not changed is not sent again.
    """

    def decorate(view: Callable[..., Any]) -> View:
        @wraps(view)
        def shown(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
            found = view(request, **arguments)
            if isinstance(found, HttpResponseBase):
                return found
            if (part := request.GET.get("part")) in parts:
                return _part(request, f"console/parts/{part}.html", found)
            return show(request, template, found)

        return require_safe(admin.site.admin_view(shown))

    return decorate


def show(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    """Return a whole page, in the console's dress."""
    whole = {**admin.site.each_context(request), **_rights(request), **context}
    answer = TemplateResponse(request, template, whole, status=status)
    add_never_cache_headers(answer)
    return answer


def _rights(request: HttpRequest) -> dict[str, bool]:
    return {"may_operate": may(request, Scope.OPERATE), "may_admin": may(request, Scope.ADMIN)}


def _part(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    answer = render(request, template, {**context, **_rights(request)})
    tag = f'W/"{blake2b(answer.content, digest_size=12).hexdigest()}"'
    known = {each.removeprefix("W/") for each in parse_etags(request.headers.get("If-None-Match", ""))}
    if tag.removeprefix("W/") in known:
        answer = HttpResponseNotModified()
    answer.headers["ETag"] = tag
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def change(needed: Scope = Scope.OPERATE) -> Callable[[Callable[..., Any]], View]:
    """Makes a button's address of a function that changes something and returns a sentence, or an answer of its own.

    Only a POST gets there, with a CSRF token, and only from somebody whose scope covers ``needed``. Afterwards the page
    is shown where the button was, with the sentence, or with the reason of a refusal.
    """

    def decorate(act: Callable[..., Any]) -> View:
        @wraps(act)
        def changed(request: HttpRequest, **arguments: Any) -> HttpResponseBase:
            if not may(request, needed):
                raise PermissionDenied
            try:
                found = act(request, **arguments)
            except REFUSALS as refusal:
                messages.error(request, _sentence(str(refusal)))
                return back(request)
            if isinstance(found, HttpResponseBase):
                return found
            messages.success(request, _sentence(found))
            return back(request)

        return require_POST(admin.site.admin_view(changed))

    return decorate


def back(request: HttpRequest) -> HttpResponseRedirect:
    """Lead to the page whose button was pressed."""
    wanted = request.POST.get("next", "")
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=request.is_secure())
    return HttpResponseRedirect(wanted if wanted and is_ours else reverse("admin:index"))


def _sentence(text: str) -> str:
    """Return a message as it stands on a page: it begins with a capital, and ends with a full stop."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "…")) else ".")
