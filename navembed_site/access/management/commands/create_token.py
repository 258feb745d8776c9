"""``manage.py create_token``: let a program call the API."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import LONGEST_DAYS, NameTaken, create_token
from navembed_site.instance import command


class Command(command.Command):
    help = "Makes a token with which a program may call the API, and prints it: this once, and never again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="What it is for.")
        parser.add_argument("--scope", choices=Scope.values, required=True)
        parser.add_argument("--expires-days", type=int, metavar="N", help="Default: it never expires.")

    def handle(self, *, name: str, scope: str, expires_days: int | None, **options: Any) -> None:
        if expires_days is not None and not 1 <= expires_days <= LONGEST_DAYS:
            raise CommandError(f"--expires-days must be from 1 to {LONGEST_DAYS}.")
        try:
            token = create_token(name, Scope(scope), created_by="create_token", days=expires_days)
        except NameTaken as error:
            raise CommandError(str(error)) from error
        self.stdout.write(token.secret)
