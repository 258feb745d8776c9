"""``manage.py find_duplicates``: look for tracks of the library that hold the same recording."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.duplicates.looking import look_through, want_look
from embeddings.models import DuplicatePair
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent

NICENESS = 10  # nobody waits for it


class Command(command.Command):
    help = "Look for tracks that hold the same recording; the console's page Duplicates shows them. No file is touched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--due", action="store_true", help="Only if somebody has asked for it; `serve` does it.")

    def handle(self, *args: Any, due: bool, **options: Any) -> None:
        if due:
            die_with_parent()
        else:
            want_look()
        os.nice(NICENESS)
        decoders = DecodePool(1, limits=Limits(settings.MIN_DECODED, settings.MAX_HOURS))
        try:
            with hold("duplicates"):
                tracks = sum(look_through(decoders))
        except NavembedError as error:
            raise CommandError(f"{error}. It goes on from here the next time.") from error
        finally:
            decoders.close()
        pairs = DuplicatePair.objects.filter(rejected=False).count()
        self.stdout.write(f"{tracks:,} tracks were looked at; {pairs:,} pairs hold the same recording.")
