"""Settings that work, but open more than one may think."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004  (Django's name)


@register(Tags.security)
def check_trusted_networks(**_: Any) -> list[CheckMessage]:
    return [
        Warning(
            f"NAVEMBED_TRUSTED_NETWORKS names {network}, in which anybody on the internet may be: "
            "everybody there may start jobs without a token.",
            id="navembed.W008",
        )
        for network in settings.TRUSTED_NETWORKS
        if not network.is_private
    ]


@register(Tags.security)
def check_hosts(**_: Any) -> list[CheckMessage]:
    if "*" not in settings.OUR_HOSTS:
        return []
    message = "NAVEMBED_ALLOWED_HOSTS is *, so a page of any name may pass for ours (DNS rebinding). Name the hosts."
    return [Warning(message, id="navembed.W006")]
