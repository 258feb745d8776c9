"""``manage.py create_token``: let a program call the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token

LONGEST_DAYS = 36_500


class Command(BaseCommand):
    help = "Makes a token with which a program may call the API, and prints it: this once, and never again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="What it is for.")
        parser.add_argument("--scope", choices=Scope.values, required=True)
        parser.add_argument("--expires-days", type=int, metavar="N", help="Default: it never expires.")

    def handle(self, *, name: str, scope: str, expires_days: int | None, **options: Any) -> None:
        if expires_days is not None and not 1 <= expires_days <= LONGEST_DAYS:
            raise CommandError(f"--expires-days must be from 1 to {LONGEST_DAYS}.")
        expires_at = timezone.now() + timedelta(days=expires_days) if expires_days else None
        try:
            _, secret = create_token(name, Scope(scope), created_by="create_token", expires_at=expires_at)
        except IntegrityError as error:
            raise CommandError(f"There is a token named {name!r}; revoke it first, or choose another name.") from error
        self.stdout.write(secret)
