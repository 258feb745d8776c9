"""``manage.py job``: look at jobs, pause, resume, cancel them, try failed tracks again."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from batches import services
from batches.models import BatchJob
from batches.progress import contract_progress

ACTIONS = {
    "pause": services.pause_job,
    "resume": services.resume_job,
    "cancel": services.cancel_job,
    "retry-failed": services.retry_failed,
}
NEWEST = 20


class Command(BaseCommand):
    help = "Lists the newest jobs, shows one, or pauses, resumes, cancels it or tries its failed tracks again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["list", "show", *ACTIONS])
        parser.add_argument("id", nargs="?", type=int, help="Default: the unfinished job, else the newest.")
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *, action: str, id: int | None, as_json: bool, **options: Any) -> None:  # noqa: A002
        if action == "list":
            jobs = list(BatchJob.objects.prefetch_related("progress")[:NEWEST])
        else:
            jobs = [_find(id)]
            self._act(action, jobs[0])
        if as_json:
            self.stdout.write(json.dumps([contract_progress(job) for job in jobs]))
        else:
            for job in jobs:
                self.stdout.write(_line(job))

    def _act(self, action: str, job: BatchJob) -> None:
        if action == "show":
            return
        try:
            ACTIONS[action](job)
        except services.JobConflict as error:
            raise CommandError(str(error)) from error


def _find(pk: int | None) -> BatchJob:
    job = BatchJob.objects.filter(pk=pk).first() if pk else services.open_job() or BatchJob.objects.first()
    if job is None:
        raise CommandError(f"There is no job {pk}." if pk else "There is no job yet.")
    return job


def _line(job: BatchJob) -> str:
    now = contract_progress(job)
    done = f"{now['processed_tracks']}/{now['total_tracks']} tracks, {now['failed_tracks']} failed"
    return f"{job}: {job.status}, {now['progress_percent']} %, {done}{job.message and f' ({job.message})'}"
