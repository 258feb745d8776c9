"""Make the synthetic library of the demo, and tiny checkpoints to embed it with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from navembed_site.demo.checkpoints import make_tiny_checkpoints
from navembed_site.demo.library import make_demo_library
from navembed_site.instance import command


class Command(command.Command):
    help = "Make a synthetic library with a Navidrome database, and tiny checkpoints with random weights."
    requires_migrations_checks = False
    requires_system_checks = []  # it makes what the checks ask for

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)

    def handle(self, *args: Any, folder: Path, **options: Any) -> None:
        folder = folder.absolute()
        library = make_demo_library(folder)
        checkpoints = make_tiny_checkpoints(folder / "checkpoints")
        if not options["verbosity"]:
            return
        self.stdout.write(f"{library.tracks} tracks. To use them, set:")
        self.stdout.write(f"NAVIDROME_DB_PATH={library.database}")
        for key, path in checkpoints.items():
            self.stdout.write(f"NAVEMBED_{key.upper()}={path}")
