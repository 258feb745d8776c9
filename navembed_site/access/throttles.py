"""Limits on what takes a device's time (views with ``costs_device_time = True``), per caller and per address.

Counted in each web process by itself. A trusted program is not limited: it is one caller for all of its users.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

from navembed_site.access.scopes import caller_of
from navembed_site.access.trust import neighbourhood

if TYPE_CHECKING:
    from rest_framework.views import APIView


class DeviceTimeThrottle(SimpleRateThrottle):
    """NAVEMBED_RATE_LIMIT calls a minute; subclasses say what is counted."""

    timer = staticmethod(time.monotonic)  # a clock that is set back would shut everybody out

    def get_rate(self) -> str | None:
        return f"{settings.RATE_LIMIT}/min" if settings.RATE_LIMIT else None

    def allow_request(self, request: Request, view: APIView) -> bool:
        caller = caller_of(request)
        if caller is None or caller.is_trusted_program or not getattr(view, "costs_device_time", False):
            return True
        return super().allow_request(request, view)


class PerCaller(DeviceTimeThrottle):
    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        return f"rate-{caller.key}" if (caller := caller_of(request)) else None


class PerAddress(DeviceTimeThrottle):
    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"rate-{neighbourhood(request._request)}"
