"""``manage.py make_maps MODEL``: draw the map that the console shows of a model's vectors."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.maps.making import make_due_maps, make_map
from embeddings.models import SpaceMap
from embeddings.spaces.lifecycle import live_space
from navembed_site.instance import command
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent

NICENESS = 10  # nobody waits for it


class Command(command.Command):
    help = "Draw the maps that the console shows: what sounds alike to a model lies together."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("model", nargs="?", choices=MODEL_KEYS, metavar="MODEL")
        what.add_argument("--due", action="store_true", help="Those that are missing or out of date; `serve` does it.")

    def handle(self, *args: Any, model: str | None, due: bool, **options: Any) -> None:
        keep_compiled()
        if model is None:
            self._make_due()
            return
        space = live_space(model)
        if space is None:
            raise CommandError(f"Nothing has been embedded with {model} yet.")
        self._tell(make_map(space))

    def _make_due(self) -> None:
        """Make them while the process lives that wanted it."""
        die_with_parent()
        os.nice(NICENESS)
        with hold("maps"):
            for made in make_due_maps():
                self._tell(made)

    def _tell(self, made: SpaceMap) -> None:
        self.stdout.write(f"The map of {made.space.model} shows {made.tracks:,} tracks.")
        self.stdout.flush()


def keep_compiled() -> None:
    """Keeps what numba compiles for UMAP in a folder of ours: that of the library may not be written to."""
    from numba import config

    config.CACHE_DIR = config.CACHE_DIR or str(settings.NAVEMBED_HOME / "compiled")
