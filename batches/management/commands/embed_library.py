"""Embed what the library lacks, and follow it to the end."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from django.core.management.base import CommandError, CommandParser

from batches import services
from batches.events import Who
from batches.models import BatchJob
from batches.requests import JobRequest
from batches.selectors.dry_run import preview
from batches.selectors.progress import contract_progress
from batches.terminal.dry_run import preview_text
from batches.terminal.follow import LINE_SECONDS, follow
from batches.terminal.jobs import has_worker, state_text
from embeddings.checks import require_library
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.library.base import Tell
from embeddings.library.storage import what_is_away
from embeddings.search.bridge_upkeep import fit_due_bridges, worth
from navembed_site.errors import NavembedError
from navembed_site.instance import command, supervisor
from navembed_site.instance.needed import ProcessStartError, needed_processes
from navembed_site.process.locks import is_held


class Command(command.Command):
    help = "Embed what is missing or has changed. Starts what it needs when `serve` is not running."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--models", nargs="+", choices=MODEL_KEYS, help="Only these; default: all.")
        parser.add_argument("--clear-existing", action="store_true", help="Embed everything anew.")
        parser.add_argument("--retry-bad-files", action="store_true", help="Try known bad files again, too.")
        parser.add_argument("--limit", type=command.positive, help="At most so many tracks.")
        parser.add_argument("--library", type=int, help="Only the Navidrome library with this id.")
        parser.add_argument("--path-prefix", default="", help="Only files whose absolute path begins so.")
        parser.add_argument("--no-wait", action="store_true", help="Start the job and return.")
        parser.add_argument("--dry-run", action="store_true", help="Only say what would be done, and why.")
        parser.add_argument("--json", action="store_true", help="Print the job's end, or the dry run, as JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        require_library()
        if options["dry_run"]:
            self._preview(options)
            return
        job = self._start(options)
        if options["no_wait"]:
            self.stdout.write(state_text(job))
            return
        try:
            with needed_processes("milvus_lite", "embedder", "worker"):
                follow(job, sys.stderr if options["json"] else sys.stdout)
        except ProcessStartError as error:
            raise CommandError(f"{error} Job {job.pk} goes on when this command or `serve` is started.") from error
        except KeyboardInterrupt:
            raise CommandError(_left(job)) from None
        if not is_held("light"):  # else it does so itself
            for bridge in fit_due_bridges():
                self.stderr.write(f"{worth(bridge)}.")
        if options["json"]:
            self.stdout.write(json.dumps(contract_progress(job)))
        elif job.status == BatchJob.Status.COMPLETED and not job.total_tracks:
            self.stdout.write("Nothing was missing, and nothing had changed.")
        if job.status != BatchJob.Status.COMPLETED:
            raise CommandError(_end(job))

    def _preview(self, options: dict[str, Any]) -> None:
        try:
            found = preview(_request(options), tell=self._now_and_then())
        except NavembedError as error:
            raise CommandError(str(error)) from error
        for problem in what_is_away():
            self.stderr.write(problem)
        self.stdout.write(json.dumps(found.as_dict(), indent=2) if options["json"] else preview_text(found))

    def _now_and_then(self) -> Tell:
        """Return what says how far slow storage has been read."""
        told = [time.monotonic()]

        def tell(doing: str) -> None:
            if time.monotonic() - told[0] >= LINE_SECONDS:
                told[0] = time.monotonic()
                self.stderr.write(doing)

        return tell

    def _start(self, options: dict[str, Any]) -> BatchJob:
        """Start a job, queued if need be; one left unfinished, with nobody working on it now, goes on instead."""
        left = services.open_job()
        try:
            if left and not has_worker():
                self.stderr.write(f"job {left.pk} was left unfinished and goes on instead of a new one")
                if left.status in BatchJob.RESUMABLE:
                    services.resume_job(left, who=Who(via="command"))
                return left
            job = services.start_job(_request(options), started_by="command", via="command", queue=True)
        except (services.JobConflict, NavembedError) as error:
            raise CommandError(str(error)) from error
        if job.status == BatchJob.Status.QUEUED:
            self.stderr.write(state_text(job))
        return job


def _request(options: dict[str, Any]) -> JobRequest:
    """Return what is asked for. Raises RequestRefused."""
    return JobRequest(
        options["models"] or (),
        clear_existing=options["clear_existing"],
        retry_bad_files=options["retry_bad_files"],
        limit=options["limit"],
        library_id=options["library"],
        path_prefix=options["path_prefix"],
    )


def _end(job: BatchJob) -> str:
    if job.failed_tracks and job.status == BatchJob.Status.COMPLETED_WITH_ERRORS:
        failed = f"{job.failed_tracks} of {job.total_tracks} tracks failed"
        told = f"job {job.pk}: {failed}; `manage.py job show {job.pk} --failed` lists why"
        return f"{told}. {job.message}" if job.message else told
    return state_text(job)


def _left(job: BatchJob) -> str:
    """Say what becomes of a job that nobody follows any more."""
    if has_worker() or supervisor.is_running():
        return f"job {job.pk} goes on without this command; `manage.py job pause` or `job cancel` stops it"
    return f"job {job.pk} goes on when this command or `serve` is started"
