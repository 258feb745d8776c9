"""``manage.py web``: the application on one port."""

from __future__ import annotations

import signal
import socket
import sys
import tempfile
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, connections

from navembed_site import OUR_CHECKS
from navembed_site.access.middleware import body_limit
from navembed_site.http import sockets, uploads
from navembed_site.http.server import Server
from navembed_site.instance import command
from navembed_site.process import locks
from navembed_site.process.parent import die_with_parent, tie_forks_to_parent

SWITCH_SECONDS = 0.0005
"""At each step the server's loop waits so long for Python's lock, for every thread that computes."""


class Command(BaseCommand):
    help = "Answers HTTP on one port. Started by `serve`."
    requires_system_checks = OUR_CHECKS

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)
        parser.add_argument("--socket", type=int, dest="descriptor", help="Number of a socket that listens already.")

    def handle(self, *, port: int, descriptor: int | None, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        die_with_parent()
        locks.hold("text" if port == settings.TEXT_PORT else "web")
        tie_forks_to_parent()
        _require_not_moved()
        uploads.forget_left_behind()
        listener = sockets.listen(settings.BIND, port) if descriptor is None else socket.socket(fileno=descriptor)
        tempfile.tempdir = str(settings.FILE_UPLOAD_TEMP_DIR)  # of bodies while they come: /tmp may be memory
        from navembed_site.wsgi import application  # takes a while; warms up

        sys.setswitchinterval(SWITCH_SECONDS)
        Server(application, listener, body_limit=body_limit, room=2 * settings.AUDIO_BODY_BYTES).run()


def _require_not_moved() -> None:
    """A database that is away keeps nobody from answering what is known of it."""
    with suppress(DatabaseError):
        command.require_not_moved()
    connections.close_all()  # each thread has its own
