"""``manage.py move_database DATABASE_URL``: take the instance from SQLite to PostgreSQL, or back."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError
from rich.live import Live

from navembed_site.errors import NavembedError
from navembed_site.instance import command, moving
from navembed_site.terminal import console, progress

LINE_SECONDS = 10.0


class Command(command.Command):
    help = "Copy everything into the empty database at DATABASE_URL, compare it, and retire the old one. Stop first."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("url", metavar="DATABASE_URL", help="like postgres://user:password@host:5432/name")

    def check_migrations(self) -> None:
        """A move that broke off between the two marks of its end goes on with what it has copied."""
        if not moving.is_moved():
            super().check_migrations()

    def handle(self, *args: Any, url: str, **options: Any) -> None:
        try:
            with _Meter() as meter:
                moved = moving.move(url, meter.tell)
        except (NavembedError, DatabaseError) as error:
            raise CommandError(f"Nothing was moved: {' '.join(str(error).split())}") from error
        self.stdout.write(f"Moved {moved.rows:,} rows to {moved.target}, and compared them.")
        password = ", with the password in place of …" if "…" in moved.url else ""
        self.stdout.write(f"Next, set this in navembed.env, or where you set it{password}, and start:")
        self.stdout.write(f"DATABASE_URL={moved.url}")
        if settings.MILVUS_URI:
            self.stdout.write("Then run `manage.py adopt_milvus`: Milvus knows this instance by its former database.")
        self.stdout.write(f"{moved.source} is not used any more: delete it when the instance runs well.")


class _Meter:
    """Shows how far it is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()
        self._live = Live(console=console(), auto_refresh=False, transient=True) if sys.stdout.isatty() else None

    def __enter__(self) -> _Meter:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def tell(self, done: int, total: int, doing: str) -> None:
        now = time.monotonic()
        left = f"about {timedelta(seconds=round((now - self._began) * (total - done) / done))} left"
        percent = 100 * done / total
        if self._live:
            size = f"{total / 2e9:.2f} GB, copied and then compared"
            self._live.update(progress("moving", percent, left, size, doing), refresh=True)
        elif now - self._told >= LINE_SECONDS:
            self._told = now
            sys.stdout.write(f"{percent:.1f} %, {left}: {doing}\n")
            sys.stdout.flush()
