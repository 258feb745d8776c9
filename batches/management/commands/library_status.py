"""Show how much of the library is embedded."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.table import Table

from batches.status import library_status
from embeddings.errors import IndexUnavailable
from embeddings.library.away import away_text
from navembed_site.processes import ProcessStartError, needed_processes


class Command(BaseCommand):
    help = "Show how much of the library is embedded; works with nothing running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="Print JSON for scripts.")
        parser.add_argument("--verify", action="store_true", help="Compare with what Milvus itself holds.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with needed_processes(*(["milvus_lite"] if options["verify"] else [])):
                status = library_status(ask_milvus=options["verify"])
        except (IndexUnavailable, ProcessStartError) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(status, indent=2))
        else:
            _print(status)


def _print(status: dict[str, Any]) -> None:
    columns = list(next(iter(status["models"].values())))
    table = Table("model", *columns, title=f"{status['playable']} playable of {status['tracks']} tracks")
    for model, counts in status["models"].items():
        table.add_row(model, *(str(counts.get(column, "")) for column in columns))
    console = Console()
    console.print(table)
    if bad := status["bad_files"]["files"] - status["bad_files"]["ignored"]:
        console.print(f"{bad:,} files cannot be embedded; `manage.py bad_files` lists them")
    if text := away_text():
        console.print(text, markup=False, highlight=False)
    job = status["last_job"]
    console.print(f"last job: {job['id']}, {job['state']}, {job['progress_percent']} %" if job else "no job yet")
