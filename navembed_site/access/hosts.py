"""The names under which this instance may be called: other names are a page's that had its address rebound to us."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http.request import split_domain_port, validate_host


def is_ours(host: str) -> bool:
    """Whether ``host``, a name or address with or without a port, is one of ours.

    Every address is: a browser that was sent to an address cannot be led to another one behind it.
    """
    return _is_named(host, settings.OUR_HOSTS)


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is how a program on this machine calls us: by an address, or as localhost."""
    return _is_named(host, settings.LOCAL_HOSTS)


def _is_named(host: str, names: list[str]) -> bool:
    name = split_domain_port(host)[0]
    return _is_address(name) or validate_host(name, names)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
