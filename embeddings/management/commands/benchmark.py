"""``manage.py benchmark index``: measure on this machine what docs/performance.md states."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich import box
from rich.console import Console
from rich.table import Table

from embeddings.benchmarks.index import IndexFigures, measure
from embeddings.encoders.registry import ENCODERS
from embeddings.errors import NavembedError
from navembed_site.processes import needed_processes


class Command(BaseCommand):
    help = "Measure the search index against brute force, on synthetic embeddings of every model."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=["index"])
        parser.add_argument("--rows", type=int, default=5000, help="embeddings per model (default: 5000)")
        parser.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def handle(self, *args: Any, rows: int, **options: Any) -> None:
        if rows <= 100:
            raise CommandError("--rows must be more than 100.")
        try:
            with needed_processes("milvus_lite"):
                figures = [measure(encoder, rows=rows) for encoder in ENCODERS]
        except NavembedError as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps([asdict(each) for each in figures], indent=2))
        else:
            Console().print(_table(figures))


def _table(figures: list[IndexFigures]) -> Table:
    title = f"Search index, {figures[0].rows} embeddings each; milliseconds; brute: NumPy"
    table = Table(title=title, box=box.SIMPLE, padding=0)
    columns = ("numbers", "searched", "recall@10", "project", "insert", "search", "rank", "brute")
    table.add_column("model")
    for column in columns:
        table.add_column(column, justify="right")
    for each in figures:
        times = (each.project_ms, each.insert_ms, each.search_ms, each.rank_ms, each.brute_force_ms)
        widths = (str(each.dimension), str(each.search_dimension))
        table.add_row(each.model, *widths, f"{each.recall:.3f}", *(f"{time:.2f}" for time in times))
    return table
