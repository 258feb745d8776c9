"""``manage.py fit_text_bridge MODEL``: learn how to search a model by text that cannot read."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embeddings.encoders.registry import MODEL_KEYS, TEXT_MODEL
from embeddings.errors import NavembedError
from embeddings.search.bridge import Bridge, write_bridge
from embeddings.search.bridge_fitting import NEAREST, fit_bridge
from navembed_site import commands

BRIDGED = [model for model in MODEL_KEYS if model != TEXT_MODEL.hears_with]


class Command(commands.Command):
    help = f"Learn from the embedded library how texts lead to a model that cannot read: {' or '.join(BRIDGED)}."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("model", choices=BRIDGED, metavar="MODEL")

    def handle(self, *args: Any, model: str, **options: Any) -> None:
        try:
            bridge = self._fit(model)
            path = write_bridge(bridge)
        except NavembedError as error:
            raise CommandError(f"{error}.") from error
        except OSError as error:
            raise CommandError(f"The bridge cannot be written: {error}") from error
        origin = bridge.origin
        chance = min(1.0, NEAREST / origin.kept_aside)
        self.stdout.write(f"Learnt from {origin.tracks:,} tracks, with a penalty of {origin.strength:g}.")
        self.stdout.write(
            f"Of {origin.kept_aside:,} tracks kept aside, {origin.recall:.0%} are among the {NEAREST} nearest to what "
            f"a bridge without them makes of their {TEXT_MODEL.hears_with} embedding (by chance {chance:.1%}). "
            f"It explains {origin.explained:.0%} of the variance."
        )
        self.stdout.write(f"{model} can be searched by text now; the bridge is {path}")

    def _fit(self, model: str) -> Bridge:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("reading")
            return fit_bridge(model, progress=lambda done, tracks: bar.update(task, completed=done, total=tracks))
