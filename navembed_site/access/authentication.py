"""Who calls: a token, a trusted program (the contract's routes alone), or somebody who is signed in.

The order matters. Whoever sends credentials is judged by them, and a trusted program's call asks no database.
"""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from navembed_site.access import tokens, trust
from navembed_site.access.scopes import TRUSTED_PROGRAM, Caller, Scope, scope_of


class BearerToken(BaseAuthentication):
    """``Authorization: Bearer nv_…``. Being the first, it makes DRF answer 401 to those without credentials."""

    def authenticate(self, request: Request) -> tuple[None, Caller] | None:
        scheme, _, secret = request.META.get("HTTP_AUTHORIZATION", "").strip().partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = tokens.find_token(secret.strip())
        if token is None:
            raise AuthenticationFailed("The token is not known, has expired or was revoked.")
        tokens.note_use(token, request.META.get("HTTP_USER_AGENT", ""))
        return None, Caller(token.name, Scope(token.scope), f"token-{token.pk}")

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="navembed"'


class TrustedProgram(BaseAuthentication):
    """A program in a trusted network, on views with ``contract = True``; never with credentials of any kind."""

    def authenticate(self, request: Request) -> tuple[None, Caller] | None:
        is_contract = getattr(request.parser_context["view"], "contract", False)
        if not is_contract or "HTTP_AUTHORIZATION" in request.META or trust.refusal(request._request):
            return None
        return None, Caller("http", Scope.OPERATE, TRUSTED_PROGRAM)


class StaffSession(SessionAuthentication):
    """Somebody who is signed in to the console. Writing calls need the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        user = found[0]
        return user, Caller(user.get_username(), scope_of(user), f"user-{user.pk}")
