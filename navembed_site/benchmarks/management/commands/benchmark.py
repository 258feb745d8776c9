"""``manage.py benchmark KIND``: measure on this machine what docs/performance.md states."""

from __future__ import annotations

import argparse
import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from rich import box
from rich.console import Console
from rich.table import Table

from embeddings.encoders.registry import ENCODERS
from navembed_site.benchmarks import http, index, jobs, pages, search, similar
from navembed_site.benchmarks import uploads as upload_figures
from navembed_site.benchmarks.embedding import command as embedding
from navembed_site.errors import NavembedError
from navembed_site.instance import command
from navembed_site.instance.needed import needed_processes


class Command(command.Command):
    help = "Measure embedding, search, jobs, HTTP, uploads, or pages of the console; all is synthetic."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="what", required=True)
        embedded = kinds.add_parser("embedding", help="tracks to vectors, stage by stage, beside what was replaced")
        embedding.add_arguments(embedded)
        searched = kinds.add_parser("index", help="recall and speed of search, on embeddings of every model")
        searched.add_argument("--rows", type=int, default=5000, help="embeddings per model (default: 5000)")
        found = kinds.add_parser("search", help="recommendations in a large library, in a scratch instance")
        found.add_argument("--tracks", type=int, default=20_000, help="in the library (default: 20,000)")
        found.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        found.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
        liked = kinds.add_parser("similar", help="what players wait for similar tracks, in a scratch instance")
        liked.add_argument("--tracks", type=int, default=20_000, help="in the library (default: 20,000)")
        liked.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        liked.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
        worked = kinds.add_parser("jobs", help="start, resume and progress of jobs, in a scratch instance")
        worked.add_argument("--tracks", type=int, default=1_000_000, help="in the library (default: 1,000,000)")
        worked.add_argument("--numbers", type=int, default=8, help="of a MuQ vector; really 1536 (default: 8)")
        worked.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        worked.add_argument("--database", default="", help="URL of an empty PostgreSQL database, which is left filled")
        worked.add_argument("--step", choices=[*jobs.STEPS, "pages"], help=argparse.SUPPRESS)
        asked = kinds.add_parser("http", help="polls while a batch runs, in a scratch instance on free ports")
        asked.add_argument("--connections", type=_up_to(64), default=8, help="that ask at a time (default: 8)")
        asked.add_argument("--seconds", type=_up_to(60), default=15, help="of each measurement (default: 15)")
        asked.add_argument("--tracks", type=_up_to(10_000), default=200, help="of the batch (default: 200)")
        asked.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        sent = kinds.add_parser("uploads", help="uploads alone and beside a batch, in a scratch instance on free ports")
        sent.add_argument("--uploads", type=_up_to(1_000), default=10, help="of each measurement (default: 10)")
        sent.add_argument("--tracks", type=_up_to(10_000), default=200, help="of the batch (default: 200)")
        sent.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        shown = kinds.add_parser("pages", help="the console's pages, in a scratch instance")
        shown.add_argument("--tracks", type=int, default=100_000, help="in the library (default: 100,000)")
        shown.add_argument("--folder", type=Path, help="where the scratch instance lies (default: temporary files)")
        for each in (embedded, searched, found, liked, worked, asked, sent, shown):
            each.add_argument("--json", action="store_true", help="print JSON instead of a table")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        try:
            if what == "embedding":
                embedding.handle(self.stdout, **options)
            elif what == "index":
                self._index(options["rows"], as_json=options["json"])
            elif what == "search":
                self._search(options["tracks"], options["folder"], here=options["here"], as_json=options["json"])
            elif what == "similar":
                self._similar(options["tracks"], options["folder"], here=options["here"], as_json=options["json"])
            elif what == "http":
                self._http(**options)
            elif what == "uploads":
                self._uploads(**options)
            elif what == "pages":
                self._pages(**options)
            else:
                self._jobs(**options)
        except NavembedError as error:
            raise CommandError(str(error)) from error

    def _index(self, rows: int, *, as_json: bool) -> None:
        if rows <= 100:
            raise CommandError("--rows must be more than 100.")
        with needed_processes("milvus_lite"):
            figures = [index.measure(encoder, rows=rows) for encoder in ENCODERS]
        if as_json:
            self.stdout.write(json.dumps([asdict(each) for each in figures], indent=2))
        else:
            Console().print(_index_table(figures))

    def _search(self, tracks: int, folder: Path | None, *, here: bool, as_json: bool) -> None:
        _require_enough(tracks)
        if here:
            with needed_processes("milvus_lite", "embedder"):
                self.stdout.write(json.dumps(search.measure_here_with_texts(tracks)))
            return
        figures = search.measure(tracks, folder)
        if as_json:
            self.stdout.write(json.dumps([asdict(each) for each in figures], indent=2))
        else:
            Console().print(_search_table(figures, tracks))

    def _similar(self, tracks: int, folder: Path | None, *, here: bool, as_json: bool) -> None:
        _require_enough(tracks)
        if here:
            with needed_processes("milvus_lite"):
                self.stdout.write(json.dumps(similar.measure_here(tracks)))
            return
        self._print(similar.measure(tracks, folder), f"Similar tracks among {tracks:,}", as_json=as_json)

    def _jobs(self, tracks: int, numbers: int, **options: Any) -> None:
        if tracks < 1000 or numbers < 1:
            raise CommandError("--tracks must be at least 1000, --numbers at least 1.")
        extent = jobs.Extent(tracks, numbers)
        if options["step"]:
            from navembed_site.benchmarks import job_steps

            module = pages if options["step"] == "pages" else job_steps
            figures = list(getattr(module, options["step"])(extent))
        else:
            figures = list(jobs.measure(extent, folder=options["folder"], database=options["database"]))
        title = f"Jobs over {extent.tracks:,} tracks, three models"
        self._print(figures, title, as_json=options["json"] or bool(options["step"]))

    def _http(self, connections: int, seconds: int, tracks: int, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nobody leaves the instance running
        effort = http.Effort(connections, seconds, tracks)
        figures = list(http.measure(effort, folder=options["folder"]))
        self._print(figures, f"HTTP over {connections} connections while a batch runs", as_json=options["json"])

    def _uploads(self, uploads: int, tracks: int, **options: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nobody leaves the instance running
        effort = upload_figures.Effort(uploads, tracks)
        figures = list(upload_figures.measure(effort, folder=options["folder"]))
        self._print(figures, f"{uploads} uploads of a minute, one after the other", as_json=options["json"])

    def _pages(self, tracks: int, **options: Any) -> None:
        if tracks < 1000:
            raise CommandError("--tracks must be at least 1000.")
        extent = jobs.Extent(tracks, numbers=8)
        figures = pages.measure(extent, options["folder"])
        self._print(figures, f"The console over {tracks:,} tracks, three models", as_json=options["json"])

    def _print(self, figures: list[jobs.Figure], title: str, *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([asdict(each) for each in figures], indent=2))
        else:
            Console().print(_figures_table(figures, title))


def _require_enough(tracks: int) -> None:
    if tracks < search.FEWEST_TRACKS:
        raise CommandError(f"--tracks must be at least {search.FEWEST_TRACKS}.")


def _up_to(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be from 1 to {most}")
        return int(text)

    return number


def _index_table(figures: list[index.IndexFigures]) -> Table:
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


def _search_table(figures: list[search.SearchFigure], tracks: int) -> Table:
    table = Table(title=f"Recommendations from {tracks:,} tracks; milliseconds", box=box.SIMPLE, padding=0)
    table.add_column("query, and where its time goes")
    for column in ("median", "p95"):
        table.add_column(column, justify="right")
    for each in figures:
        table.add_row(each.what, f"{each.median:.0f}", f"{each.p95:.0f}")
        for stage, median in each.stages.items():
            table.add_row(f"  {stage}", f"{median:.0f}", "")
    return table


def _figures_table(figures: list[jobs.Figure], title: str) -> Table:
    table = Table(title=title, box=box.SIMPLE, padding=0)
    table.add_column("what")
    for column in ("measured", "wanted"):
        table.add_column(column, justify="right")
    for each in figures:
        wanted = f"< {each.wanted:g} {each.unit}" if each.wanted else ""
        wanted = f"> {each.at_least:g} {each.unit}" if each.at_least else wanted
        table.add_row(each.what, f"{each.value:,.2f} {each.unit}", wanted)
    return table
