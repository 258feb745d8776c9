"""``manage.py backup FILE``: everything that matters in one file, while the instance runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from navembed_site.instance import command
from navembed_site.instance.backup.archive import BackupError
from navembed_site.instance.backup.operations import backup
from navembed_site.terminal import size_text


class Command(command.Command):
    help = "Write the database and the settings, without secrets, to a file. Nothing needs to be stopped."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="replaced when the new one is complete")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            manifest = backup(file)
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        held = ", ".join(f"{count} {name}" for name, count in manifest.counts.items())
        self.stdout.write(f"{file} ({size_text(file.stat().st_size)}) holds {held}.")
