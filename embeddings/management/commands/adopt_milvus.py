"""``manage.py adopt_milvus``: make room for our aliases in a Milvus that another system has used."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from embeddings.encoders.registry import ENCODERS
from embeddings.errors import NavembedError
from embeddings.indexing import ensure_live_aliases, vector_store
from navembed_site import commands
from navembed_site.processes import needed_processes


class Command(commands.Command):
    help = "Rename collections of another system that have the names of our aliases to …_replaced."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with needed_processes("milvus_lite"):
                self._adopt()
        except NavembedError as error:
            raise CommandError(str(error)) from error

    def _adopt(self) -> None:
        store = vector_store()
        foreign = store.foreign_collections(encoder.alias for encoder in ENCODERS)
        for alias in foreign:
            self.stdout.write(f"{alias} is now {store.adopt(alias)}")
        ensure_live_aliases()
        if not foreign:
            self.stdout.write("Nothing to do: no collection has the name of one of our aliases.")
