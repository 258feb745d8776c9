"""``manage.py adopt_milvus``: settle whose the collections and aliases are in a Milvus that others use, too."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from embeddings.encoders.registry import ENCODERS
from embeddings.index.ownership import claim, separate
from embeddings.index.sync import ensure_live_aliases, rebuild_index, vector_store
from embeddings.models import EmbeddingSpace
from embeddings.spaces.lifecycle import WRITABLE
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes


class Command(command.Command):
    help = (
        "Let Milvus's aliases name this instance's vectors, and take over the collections that a copy of it uses. "
        "Collections of another system with the names of the aliases are renamed to …_replaced."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--separate",
            action="store_true",
            help="leave everything to the copy of this instance, and make collections of our own from the database",
        )

    def handle(self, *args: Any, separate: bool, **options: Any) -> None:
        try:
            with needed_processes("milvus_lite"):
                self._separate() if separate else self._adopt()
        except NavembedError as error:
            raise CommandError(str(error)) from error

    def _adopt(self) -> None:
        store = vector_store()
        for alias in store.foreign_collections(encoder.alias for encoder in ENCODERS):
            self.stdout.write(f"{alias} is now {store.adopt(alias)}")
        existing = store.collections()
        for space in EmbeddingSpace.objects.exclude(instance=""):
            if space.collection in existing:
                claim(store, space.collection, take_over=True)
        ensure_live_aliases(take_over=True)
        self.stdout.write("What has our names in Milvus is ours; other instances there are left as they are.")

    def _separate(self) -> None:
        separate()
        for space in EmbeddingSpace.objects.filter(status__in=WRITABLE):
            self.stdout.write(f"{space}: {rebuild_index(space)} embeddings are in {space.collection}")
