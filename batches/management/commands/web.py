"""``manage.py web``: granian serving the application on one port."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connections
from granian import Granian
from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings

from navembed_site import bodies, commands, locks, processes, sockets
from navembed_site.rest import uploads

HEADER_BYTES = 64 * 1024
HEADER_MILLISECONDS = 15_000


class Server(Granian):  # type: ignore[misc, valid-type]
    """granian on a socket that is there already: connections wait in it while no server runs."""

    def __init__(self, listener: socket.socket, **options: Any) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(address=host, port=port, **options)
        self._sso = listener

    def _init_shared_socket(self) -> None:
        """What granian does by itself with unix sockets."""
        self._sso.set_inheritable(True)
        self._shd = SocketHolder(self._sso.fileno(), False, sockets.BACKLOG)  # type: ignore[call-arg]


class Command(BaseCommand):
    help = "Answers HTTP on one port. Started by `serve`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--socket", type=int, dest="descriptor", help="Number of a socket that listens already.")

    def handle(self, *, port: int, descriptor: int | None, **options: Any) -> None:
        processes.die_with_parent()
        locks.hold("text" if port == settings.TEXT_PORT else "web")
        processes.tie_forks_to_parent()
        _require_not_moved()
        uploads.forget_left_behind()
        Server(
            sockets.listen(settings.BIND, port) if descriptor is None else socket.socket(fileno=descriptor),
            target="navembed_site.wsgi:application",
            interface=Interfaces.WSGI,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS, max_buffer_size=HEADER_BYTES),
            workers=1,
            blocking_threads=bodies.THREADS,
            workers_kill_timeout=3,  # a client that never stops reading must not delay the end
            websockets=False,
        ).serve()


def _require_not_moved() -> None:
    """A database that is away keeps nobody from answering what is known of it."""
    with suppress(DatabaseError):
        commands.require_not_moved()
    connections.close_all()  # a forked child would end our session with PostgreSQL
