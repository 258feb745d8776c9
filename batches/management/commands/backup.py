"""``manage.py backup FILE``: everything that matters in one file, while the instance runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from navembed_site.archive import BackupError
from navembed_site.backup import backup


class Command(BaseCommand):
    help = "Write the database and the settings, without secrets, to a file. Nothing needs to be stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="replaced when the new one is complete")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            manifest = backup(file)
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        held = ", ".join(f"{count} {name}" for name, count in manifest.counts.items())
        self.stdout.write(f"{file} ({file.stat().st_size / 1e9:.2f} GB) holds {held}.")
