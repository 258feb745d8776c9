"""Show how much of the library is embedded."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches.selectors.library import library_status
from embeddings.errors import IndexUnavailable
from embeddings.library.away import away_text
from embeddings.library.storage import what_is_away
from navembed_site.instance import command
from navembed_site.instance.needed import ProcessStartError, needed_processes
from navembed_site.terminal import console, plain, table

MEANINGS = {
    "embedded": "have a vector",
    "missing": "have none, and no error",
    "failed": "`bad_files`, or `job show --failed`, says why",
    "ignored": "failed, and acknowledged: `bad_files --ignore`",
    "orphaned": "vectors of tracks that are not there",
    "indexed": "vectors that search finds",
    "in_milvus": "vectors that Milvus itself counts",
    "consistent": "whether it has those, and no others",
}


class Command(command.Command):
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
        status["away_now"] = what_is_away()
        if options["json"]:
            self.stdout.write(json.dumps(status, indent=2))
        else:
            _print(status)
            for problem in status["away_now"]:
                self.stderr.write(plain(problem))
        if wrong := [model for model, counts in status["models"].items() if not counts.get("consistent", True)]:
            raise CommandError(
                f"Milvus does not hold what the database says ({', '.join(wrong)}). "
                "The next job sends what is pending; else `manage.py rebuild_index` makes the index anew."
            )


def _print(status: dict[str, Any]) -> None:
    playable, models, job = status["playable"], status["models"], status["last_job"]
    if not job and not status["tracks"]:
        console().print("The library has not been read yet: the first job does that.")
        return
    gone = status["tracks"] - playable
    more = f", {gone:,} more are not there now" if gone else ""
    console().print(f"{playable:,} tracks can be played{more}")
    shown = table("", *models, "", numbers=models)
    figures = dict.fromkeys(name for counts in models.values() for name in counts)  # not every model has all
    for name in figures:
        shown.add_row(name, *(_figure(counts.get(name)) for counts in models.values()), MEANINGS.get(name))
    console().print(shown)
    if bad := status["bad_files"]["files"] - status["bad_files"]["ignored"]:
        console().print(f"files that cannot be embedded: {bad:,}; `manage.py bad_files` lists them")
    if status["notice"]:
        console().print(f"{status['notice']}.", soft_wrap=True)
    if text := away_text():
        console().print(text, soft_wrap=True)
    console().print(f"last job: {job['id']}, {job['state']}, {job['progress_percent']} %" if job else "no job yet")


def _figure(value: int | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:,}"
