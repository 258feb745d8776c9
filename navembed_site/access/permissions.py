"""What a view asks of its caller, for every DRF view by default.

A view may say more with class attributes:

- ``scopes``: the scope that it needs, by action of a viewset or by HTTP method in small letters. What it does not
  name needs ``read`` for looking and ``operate`` for everything else.
- ``contract = True``: Navidrome's server calls it, so programs in trusted networks need no credentials.
- ``costs_device_time = True``: throttled (see ``throttles``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from navembed_site.access import trust
from navembed_site.access.scopes import Scope, caller_of

if TYPE_CHECKING:
    from rest_framework.views import APIView


class HasScope(BasePermission):
    """The caller's scope covers what the view needs."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        caller = caller_of(request)
        if caller is None:
            if getattr(view, "contract", False) and (reason := trust.refusal(request._request)):
                raise PermissionDenied(reason)
            return False  # DRF answers 401
        needed = self.needed(request, view)
        if caller.scope is None or not caller.scope.covers(needed):
            raise PermissionDenied(f"This needs the scope {needed}; {caller.name} has {caller.scope or 'none'}.")
        return True

    def needed(self, request: Request, view: APIView) -> Scope:
        """Return the scope that ``view`` needs for this request."""
        method = str(request.method)
        name = getattr(view, "action", None) or method.lower()
        default = Scope.READ if method in SAFE_METHODS else Scope.OPERATE
        needed: Scope = getattr(view, "scopes", {}).get(name, default)
        return needed
