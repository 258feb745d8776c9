"""What the commands that people run have in common. Programs, which `serve` starts, have none of it."""

from __future__ import annotations

import logging
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor

from navembed_site import OUR_CHECKS
from navembed_site.database import trouble as database_trouble
from navembed_site.instance import moving
from navembed_site.instance.backup.operations import OUR_APPS
from navembed_site.process.locks import hold, is_held

USERS = ("worker", "light", "web", "text", "uploads")
"""Programs that work with the database."""


class Command(BaseCommand):
    """Finds the database up to date, also in a new instance, and lets only warnings stand between its own lines."""

    requires_system_checks = OUR_CHECKS
    requires_migrations_checks = True  # False: it needs no tables

    def run_from_argv(self, argv: list[str]) -> None:
        root = logging.getLogger()
        if root.level == logging.INFO:  # else every detail is asked for
            root.setLevel(logging.WARNING)
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> str | None:
        """A database that cannot be used is an answer, not a fault of ours."""
        with _as_answer():
            return super().execute(*args, **options)

    def check_migrations(self) -> None:
        """Django calls it after the system checks; its own only warns."""
        bring_up_to_date()


def positive(text: str) -> int:
    """Parse an option's number from 1 up. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def bring_up_to_date() -> None:
    """Make the tables of a new instance, or of an older version, what this version needs; one process at a time.

    Raises CommandError, having changed nothing, when the database is a newer version's, cannot be used, or is not the
    instance's any more, and while processes work with the tables as they are.
    """
    with _as_answer():
        require_not_moved()
        if not _is_behind():
            return
        require_not_emptied()
        if users := [name for name in USERS if is_held(name)]:
            raise CommandError(
                f"The database must be brought up to date first, but it is in use ({', '.join(users)}). "
                "Run `manage.py stop`, then `manage.py serve`."
            )
        with hold("migrate"):
            call_command("migrate", interactive=False, verbosity=0)


def require_not_emptied() -> None:
    """Raise CommandError when the database has no tables, although the instance has worked before."""
    if not connection.introspection.table_names() and (trouble := database_trouble.trouble_of_emptied()):
        raise CommandError(str(trouble))


def require_not_moved() -> None:
    """Raise CommandError when the instance has moved to another database: it must not live in two."""
    try:
        moving.require_not_moved()
    except moving.MoveError as error:
        raise CommandError(str(error)) from error


def _is_behind() -> bool:
    """Whether migrations are to be applied. Raises CommandError when some have been that this version lacks."""
    loader = MigrationExecutor(connection).loader
    unknown = sorted(f"{app}.{name}" for app, name in {*loader.applied_migrations} - {*loader.disk_migrations})
    if ours := [name for name in unknown if name.startswith(OUR_APPS)]:
        raise CommandError(
            f"The database is that of a newer navembed, which knows {ours[-1]}. Install that version, "
            "or restore a backup of this one."
        )
    return any(node not in loader.applied_migrations for node in loader.graph.leaf_nodes())


@contextmanager
def _as_answer() -> Iterator[None]:
    """Raise CommandError, with a sentence, when the database cannot be used."""
    try:
        yield
    except (DatabaseError, InterfaceError) as error:
        if trouble := database_trouble.trouble_of(error):
            raise CommandError(str(trouble)) from error
        raise
