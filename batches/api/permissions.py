"""Who may call the contract's routes: the Go server on this machine, which sends no credentials."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP")


class LocalCaller(BasePermission):
    """The connection comes from this machine, not through a proxy, and not from a foreign web page."""

    message = "only programs on this machine may call this"

    def has_permission(self, request: Request, view: APIView) -> bool:
        address = request.META.get("REMOTE_ADDR", "")
        try:
            local = ipaddress.ip_address(address).is_loopback
        except ValueError:
            local = False
        forwarded = any(name in request.META for name in FORWARDED)
        origin = request.headers.get("Origin")
        own = origin is None or urlsplit(origin).netloc == request.get_host()
        return local and own and not forwarded


class Operator(BasePermission):
    """Somebody who is logged in to the console and may start jobs there."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        return bool(user and user.is_active and user.is_staff and user.has_perm("batches.add_batchjob"))
