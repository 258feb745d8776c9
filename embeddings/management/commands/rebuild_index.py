"""``manage.py rebuild_index``: make the search index anew from the database."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from embeddings.encoders.registry import MODEL_KEYS
from embeddings.index.sync import rebuild_index
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import WRITABLE
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes


class Command(command.Command):
    help = "Make the collections in Milvus anew from the embeddings in the database; needs no device."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", choices=MODEL_KEYS, help="only this model (default: all)")

    def handle(self, *args: Any, model: str | None, **options: Any) -> None:
        spaces = EmbeddingSpace.objects.filter(status__in=WRITABLE).order_by("model", "pk")
        if model:
            spaces = spaces.filter(model=model)
        if not spaces:
            raise CommandError("Nothing has been embedded yet.")
        try:
            with needed_processes("milvus_lite"):
                for space in spaces:
                    self.stdout.write(f"{space}: {self._rebuild(space)} embeddings are in {space.collection}")
        except NavembedError as error:
            raise CommandError(str(error)) from error

    def _rebuild(self, space: EmbeddingSpace) -> int:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task(space.model, total=space.embeddings.count())
            return rebuild_index(space, lambda sent: bar.update(task, completed=sent))
