"""Which calls without credentials are those of a program that we trust, such as Navidrome's server.

Three kinds of strangers must not pass for one: another machine, somebody behind a reverse proxy on this machine
(whose connections all come from loopback), and a web page in the browser of somebody on this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest

from navembed_site.access import hosts
from navembed_site.access.hosts import Address
from navembed_site.http import sockets

# Headers by which proxies, tunnels and CDNs tell for whom they speak. An empty one counts, too.
FORWARDING = frozenset(
    f"HTTP_{name}"
    for name in (
        "CDN_LOOP", "CLIENT_IP", "FASTLY_CLIENT_IP", "FLY_CLIENT_IP", "FORWARDED", "FORWARDED_FOR", "PROXY_CLIENT_IP",
        "TRUE_CLIENT_IP", "VIA", "WL_PROXY_CLIENT_IP", "X_CLIENT_IP", "X_CLUSTER_CLIENT_IP", "X_HOST", "X_PROXYUSER_IP",
        "X_FORWARDED", "X_REAL_IP", "X_SCHEME", "X_URL_SCHEME",
    )
)  # fmt: skip
FORWARDING_PREFIXES = tuple(
    f"HTTP_{name}_"
    for name in ("CF", "FLY", "TAILSCALE", "X_AMZN", "X_APPENGINE", "X_AZURE", "X_ENVOY", "X_FORWARDED", "X_ORIGINAL")
)


def refusal(request: HttpRequest) -> str | None:
    """Say why this call is not taken for a trusted program's; None when it is. Touches no database."""
    return next(filter(None, (judge(request) for judge in JUDGES)), None)


def connection_address(request: HttpRequest) -> Address | None:
    """The address at the other end of the connection; None when there is none, as on a unix socket."""
    try:
        address = ipaddress.ip_address(request.META.get("REMOTE_ADDR", ""))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def neighbourhood(request: HttpRequest) -> str:
    """The network of which one person may have every address: this machine, or a /64 of IPv6; else the address."""
    address = connection_address(request)
    if address and address.is_loopback:
        return "loopback"
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def is_proxied(request: HttpRequest) -> bool:
    return _by_proxy(request) is not None


def _by_address(request: HttpRequest) -> str | None:
    address = connection_address(request)
    if address and any(address in network for network in settings.TRUSTED_NETWORKS):
        return None
    return f"{address or 'This connection'} is not in NAVEMBED_TRUSTED_NETWORKS; such calls need a token."


def _by_proxy(request: HttpRequest) -> str | None:
    header = next((name for name in request.META if name in FORWARDING or name.startswith(FORWARDING_PREFIXES)), None)
    if header:
        return f"The header {header[5:].replace('_', '-').title()} tells of a proxy; such calls need a token."
    if request.META.get("SERVER_PROTOCOL") not in {"HTTP/1.1", "HTTP/2"}:
        return "HTTP/1.0 is what proxies speak; such calls need a token."
    return None


def _by_host(request: HttpRequest) -> str | None:
    """From this machine nobody needs a name of ours, except a proxy that hands on the browser's."""
    host, address = request.get_host(), connection_address(request)
    if address and address.is_loopback:
        is_known = hosts.is_this_machine(host)
    else:
        is_known = hosts.is_exactly_ours(host, request.META.get(sockets.CALLED, ""))
    return (
        None
        if is_known
        else f"The host name {host} is not exactly ours (NAVEMBED_ALLOWED_HOSTS); such calls need a token."
    )


def _by_page(request: HttpRequest) -> str | None:
    """A browser says from which page a call comes, in one of these headers at least."""
    origin = request.META.get("HTTP_ORIGIN")
    site = request.META.get("HTTP_SEC_FETCH_SITE")
    is_foreign = origin is not None and origin.lower() != f"http://{request.get_host()}".lower()
    if is_foreign or site not in {None, "same-origin", "none"}:
        return "A page of another address may not call this."
    return None


def _by_content(request: HttpRequest) -> str | None:
    """A page of another address can send forms and text without being asked for leave, but no JSON."""
    kind = request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    has_body = request.META.get("CONTENT_LENGTH") not in {None, "", "0"} or "HTTP_TRANSFER_ENCODING" in request.META
    if kind == "application/json" or (not kind and not has_body):
        return None
    return "Without a token the body must be JSON, with Content-Type: application/json, or there must be none."


JUDGES: tuple[Callable[[HttpRequest], str | None], ...] = (_by_address, _by_proxy, _by_host, _by_page, _by_content)
