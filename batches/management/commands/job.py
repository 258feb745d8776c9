"""``manage.py job``: look at jobs, pause, resume, cancel them, try failed tracks again."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from batches import services
from batches.events import Who
from batches.models import BatchJob, TrackResult
from batches.selectors.progress import contract_progress
from batches.terminal.jobs import (
    FAILURES_SHOWN,
    failures,
    notes,
    print_failures,
    print_job,
    print_jobs,
    print_notes,
    state_text,
)
from navembed_site.instance import command

ACTIONS = {
    "pause": services.pause_job,
    "resume": services.resume_job,
    "cancel": services.cancel_job,
    "retry-failed": services.retry_failed,
}
NEWEST = 20


class Command(command.Command):
    help = "Lists the newest jobs, shows one, or pauses, resumes, cancels it or tries its failed tracks again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["list", "show", *ACTIONS])
        parser.add_argument("id", nargs="?", type=int, help="Default: the unfinished job, else the newest.")
        parser.add_argument("--failed", action="store_true", help="With show: which tracks have failed, and why.")
        parser.add_argument(
            "--notes", action="store_true", help="With show: of which embedded tracks not everything was heard."
        )
        parser.add_argument(
            "--limit",
            type=command.positive,
            metavar="N",
            help=f"Show at most so many jobs ({NEWEST}), or of --failed and --notes tracks ({FAILURES_SHOWN}).",
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="Print JSON for scripts.")

    def handle(self, *args: Any, action: str, as_json: bool, **options: Any) -> None:
        for option in ("failed", "notes"):
            if options[option] and action != "show":
                raise CommandError(f"--{option} goes with show.")
        if action == "list":
            self._list(options["limit"] or NEWEST, as_json)
            return
        job = _find(options["id"])
        if options["failed"]:
            self._failed(job, options["limit"] or FAILURES_SHOWN, as_json)
        elif options["notes"]:
            self._notes(job, options["limit"] or FAILURES_SHOWN, as_json)
        elif action == "show":
            self._show(job, as_json)
        else:
            self._act(action, job, as_json)

    def _list(self, limit: int, as_json: bool) -> None:
        jobs = list(BatchJob.objects.prefetch_related("progress")[:limit])
        if as_json:
            self.stdout.write(json.dumps([contract_progress(job) for job in jobs]))
        elif jobs:
            print_jobs(jobs)
        else:
            self.stdout.write("There is no job yet.")

    def _show(self, job: BatchJob, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps([contract_progress(job)]))
        else:
            print_job(job)

    def _failed(self, job: BatchJob, limit: int, as_json: bool) -> None:
        if as_json:
            self._write(failures(job), "error_class", "error_message")
        else:
            print_failures(job, limit)

    def _notes(self, job: BatchJob, limit: int, as_json: bool) -> None:
        if as_json:
            self._write(notes(job), "note")
        else:
            print_notes(job, limit)

    def _write(self, results: QuerySet[TrackResult], *fields: str) -> None:
        names = ("track", "path", "model", *fields)
        found = results.values_list("track", "track__path", "model", *fields)
        self.stdout.write(json.dumps([dict(zip(names, row, strict=True)) for row in found], indent=2))

    def _act(self, action: str, job: BatchJob, as_json: bool) -> None:
        try:
            ACTIONS[action](job, who=Who(via="command"))
        except services.JobConflict as error:
            raise CommandError(str(error)) from error
        self.stdout.write(json.dumps([contract_progress(job)]) if as_json else state_text(job))


def _find(pk: int | None) -> BatchJob:
    job = BatchJob.objects.filter(pk=pk).first() if pk else services.open_job() or BatchJob.objects.first()
    if job is None:
        raise CommandError(f"There is no job {pk}." if pk else "There is no job yet.")
    return job
