"""``manage.py fit_text_bridge MODEL``: learn how to search a model by text that cannot read."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embeddings.search.bridge import Bridge, write_bridge
from embeddings.search.bridge_fitting import fit_bridge
from embeddings.search.bridge_upkeep import BRIDGED, fit_due_bridges, worth
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent


class Command(command.Command):
    help = f"Learn from the embedded library how texts lead to a model that cannot read: {' or '.join(BRIDGED)}."

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("model", nargs="?", choices=BRIDGED, metavar="MODEL")
        what.add_argument("--due", action="store_true", help="Those that are missing or out of date; `serve` does it.")

    def handle(self, *args: Any, model: str | None, due: bool, **options: Any) -> None:
        if model is None:
            self._fit_due()
        else:
            self._fit_one(model)

    def _fit_due(self) -> None:
        """Fit while the process lives that wanted it."""
        die_with_parent()
        with hold("bridges"):
            for bridge in fit_due_bridges():
                self.stdout.write(f"{worth(bridge)}.")
                self.stdout.flush()

    def _fit_one(self, model: str) -> None:
        try:
            bridge = self._fit(model)
            path = write_bridge(bridge)
        except NavembedError as error:
            raise CommandError(f"{error}.") from error
        except OSError as error:
            raise CommandError(f"The bridge cannot be written: {error}") from error
        self.stdout.write(f"{worth(bridge)}.")
        self.stdout.write(
            f"With a penalty of {bridge.origin.strength:g} it explains {bridge.origin.explained:.0%} of the variance. "
            f"It is kept as {path}."
        )

    def _fit(self, model: str) -> Bridge:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("reading")
            return fit_bridge(model, progress=lambda done, tracks: bar.update(task, completed=done, total=tracks))
