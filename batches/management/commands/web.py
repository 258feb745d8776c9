"""``manage.py web``: granian serving the application on one port."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from granian import Granian
from granian.constants import Interfaces

from navembed_site import processes


class Command(BaseCommand):
    help = "Answers HTTP on one port. Started by `serve`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PORT)

    def handle(self, *, port: int, **options: Any) -> None:
        processes.die_with_parent()
        processes.hold("text" if port == settings.TEXT_PORT else "web")
        processes.tie_forks_to_parent()
        Granian(
            "navembed_site.wsgi:application",
            address=settings.BIND,
            port=port,
            interface=Interfaces.WSGI,
            workers=1,
            blocking_threads=8,
            workers_kill_timeout=3,  # a client that never stops reading must not delay the end
            websockets=False,
        ).serve()
