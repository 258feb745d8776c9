"""Remove the embeddings of tracks that are gone, also when a job would not dare to."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches import services
from embeddings.errors import IndexUnavailable
from embeddings.index.sync import index_pending
from embeddings.models import EmbeddingSpace
from embeddings.spaces.pruning import prune
from embeddings.spaces.reuse import orphans
from navembed_site.instance import command
from navembed_site.instance.needed import ProcessStartError, needed_processes


class Command(command.Command):
    help = "Remove the embeddings of tracks that have been deleted from the library."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--yes", action="store_true", help="Also of tracks that are away, and more than half.")
        parser.add_argument("--dry-run", action="store_true", help="Only say how many.")

    def handle(self, *args: Any, yes: bool, dry_run: bool, **options: Any) -> None:
        spaces = EmbeddingSpace.objects.exclude(status=EmbeddingSpace.Status.KEPT).order_by("model", "pk")
        if not spaces:
            self.stdout.write("Nothing has been embedded yet.")
        if dry_run:
            for space in spaces:
                self.stdout.write(f"{space}: {len(orphans(space))} embeddings of tracks that are gone or away")
            return
        if job := services.open_job():
            raise CommandError(f"job {job.pk} is not finished; prune when it has ended")
        held = [reason for space in spaces if (reason := self._prune(space, yes))]
        if held:
            raise CommandError("\n".join(held))

    def _prune(self, space: EmbeddingSpace, yes: bool) -> str:
        """Prune one space, and Milvus with it; returns what holds it."""
        result = prune(space, lambda: None, force=yes)
        if result.held:
            return result.held
        if result.pruned:
            try:
                with needed_processes("milvus_lite"):
                    index_pending(space)
            except (IndexUnavailable, ProcessStartError) as error:
                self.stderr.write(f"The next job removes them from Milvus: {error}")
        self.stdout.write(f"{space}: {result.pruned} pruned")
        return ""
