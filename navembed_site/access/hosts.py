"""The names under which this instance may be called: other names are a page's that had its address rebound to us."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http.request import split_domain_port, validate_host

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_ours(host: str) -> bool:
    """Whether ``host``, a name or address with or without a port, is one of ours.

    Every address is: a browser that was sent to an address cannot be led to another one behind it.
    """
    return _address(host) is not None or _is_named(host)


def is_this_machine(host: str) -> bool:
    """Whether ``host`` is how a program on this machine calls us: as localhost, or by an address of loopback's."""
    address = _address(host)
    is_known = address.is_loopback if address else validate_host(_name(host), settings.LOCAL_HOSTS)
    return is_known and _is_exact(host)


def is_exactly_ours(host: str, called: str) -> bool:
    """Whether ``host`` is one of our names, or ``called``, the address of ours that the client connected to."""
    address = _address(host)
    is_called = address is not None and address == _address(called)
    is_wildcard = address is not None and address.is_unspecified  # as NAVEMBED_BIND may be
    return (is_called or _is_named(host)) and not is_wildcard and _is_exact(host)


def _is_named(host: str) -> bool:
    return validate_host(_name(host), settings.OUR_HOSTS)


def _name(host: str) -> str:
    return split_domain_port(host)[0]


def _is_exact(host: str) -> bool:
    """Whether no more was said than is compared: Django drops a dot at the end."""
    name, port = split_domain_port(host)
    return host.lower() in {name, f"{name}:{port}"}


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address((_name(host) or host).removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
