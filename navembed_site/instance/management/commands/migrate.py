"""``manage.py migrate``: Django's, which does not take a database that was lost for one of a new instance."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.core.management.commands import migrate

from navembed_site.database import trouble
from navembed_site.instance.command import require_not_emptied


class Command(migrate.Command):
    def run_from_argv(self, argv: list[str]) -> None:
        """Only what somebody types; commands of ours, which call it, have looked already."""
        with trouble.explained():
            try:
                require_not_emptied()
            except CommandError as error:
                raise SystemExit(str(error)) from error
        super().run_from_argv(argv)
