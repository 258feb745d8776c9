"""``manage.py tokens``: which programs may call the API, and an end to that."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from navembed_site.access import tokens
from navembed_site.access.models import Token
from navembed_site.instance import command


class Command(command.Command):
    help = "Lists the tokens, or revokes one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--revoke", metavar="NAME", help="It opens nothing from then on.")

    def handle(self, *, revoke: str | None, **options: Any) -> None:
        if revoke is not None:
            self._revoke(revoke)
            return
        found = Token.objects.all()
        for token in found:
            self.stdout.write(_line(token))
        if not found:
            self.stdout.write("There is no token yet; `manage.py create_token NAME --scope read` makes one.")

    def _revoke(self, name: str) -> None:
        token = Token.objects.filter(name=name, revoked=False).first()
        if token is None:
            raise CommandError(f"There is no token named {name!r}.")
        tokens.revoke(token)
        self.stdout.write(f"{token} is revoked.")


def _line(token: Token) -> str:
    used = f"used {timezone.localtime(token.last_used_at):%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
    until = f" until {timezone.localtime(token.expires_at):%Y-%m-%d}" if token.expires_at and not token.revoked else ""
    return f"{token}: {token.scope}, {token.state}{until}, {used}, made by {token.created_by}"
