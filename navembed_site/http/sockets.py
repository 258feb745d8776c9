"""Listening sockets that outlive the web server: `serve` makes them, supervisor keeps them, `web` serves on them.

Supervisor closes every descriptor below its ``minfds`` in itself and in its children, and leaves those above alone.
Its own way, ``[fcgi-program]``, does not serve: it closes the socket when the last process that uses it has ended,
it knows no IPv6, and it takes the place of the standard input by which our programs notice that supervisor died.
"""

from __future__ import annotations

import fcntl
import socket

from navembed_site.process.locks import Lock

KEPT_FROM = 128  # supervisor's `minfds`; well below any system's limit of open files
BACKLOG = 1024
CALLED = "navembed.called"
"""Key of a request's WSGI environment: the address of ours that the client connected to."""


def listen(address: str, port: int) -> socket.socket:
    """Return a socket that listens on ``address``:``port``; "::" means IPv4 too. Raises OSError."""
    ipv6 = ":" in address
    listener = socket.create_server(
        (address, port),
        family=socket.AF_INET6 if ipv6 else socket.AF_INET,
        backlog=BACKLOG,
        dualstack_ipv6=ipv6 and socket.has_dualstack_ipv6(),
    )
    # Connections inherit it. Head and body are written by themselves: the body would wait 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def keep(kept: socket.socket | Lock) -> int:
    """Return a second descriptor of a socket, or of a lock, that every program supervisor starts inherits."""
    return fcntl.fcntl(kept.fileno(), fcntl.F_DUPFD, KEPT_FROM)


def is_free(address: str, port: int) -> bool:
    """Whether a server may listen on ``address``:``port`` now."""
    try:
        listen(address, port).close()
    except OSError:
        return False
    return True
