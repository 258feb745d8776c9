"""``manage.py restore FILE``: make this instance what a backup holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from navembed_site.instance import command
from navembed_site.instance.backup.archive import BackupError
from navembed_site.instance.backup.operations import restore


class Command(command.Command):
    help = "Make this instance what a backup holds. Stop it first; `rebuild_index` makes the search index afterwards."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--force", action="store_true", help="overwrite a database that holds something")

    def handle(self, *args: Any, file: Path, force: bool, **options: Any) -> None:
        try:
            manifest, settings_file = restore(file, force=force)
        except (BackupError, OSError) as error:
            raise CommandError(str(error)) from error
        held = ", ".join(f"{count} {name}" for name, count in manifest.counts.items())
        self.stdout.write(f"Restored {held}, as they were on {manifest.host} at {manifest.created}.")
        self.stdout.write(f"Settings: {settings_file}. Look at the paths in it; secrets are not kept in backups.")
        self.stdout.write("Next: `manage.py rebuild_index` makes the search index, `manage.py serve` starts.")
