"""The queries that a job makes for every chunk find their rows by an index, on SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection

from batches.engine import chunks
from batches.engine import plan as planner
from batches.engine.leases import Lease
from batches.models import BatchJob, TrackResult
from tests.batches.rows import make_job, make_tracks, success

ALL = ("muq", "mert", "latent")


@contextmanager
def explained(part: str = TrackResult._meta.db_table) -> Iterator[list[str]]:
    """How SQLite runs each statement of the block on results, or those parts of it that hold ``part``."""
    plans: list[str] = []

    def execute(run: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if not many and sql.lstrip().startswith(("SELECT", "UPDATE")):
            run(f"EXPLAIN QUERY PLAN {sql}", params, many, context)
            plans.extend(row[3] for row in context["cursor"].fetchall() if part in row[3])
        return run(sql, params, many, context)

    with connection.execute_wrapper(execute):
        yield plans


def index(plan: str) -> str:
    """The index and its columns."""
    return plan.partition(" USING ")[2]


def test_claim_uses_the_index_of_pending_results_without_sorting(lease: Lease) -> None:
    job = make_job(make_tracks(3), ALL)
    with explained() as plans:
        chunks.claim(job, lease)
    assert {index(plan) for plan in plans} == {
        "INDEX result_pending (job_id=?)",
        "INTEGER PRIMARY KEY (rowid=?)",
    }


def test_looking_for_what_is_left_uses_the_index_of_each_status(lease: Lease) -> None:
    job = make_job([])
    with explained() as plans:
        chunks.is_left(job)
    assert [index(plan).replace("COVERING ", "") for plan in plans] == [
        "INDEX result_pending (job_id=?)",
        "INDEX result_running (job_id=?)",
    ]


def test_commit_looks_up_its_own_tracks(lease: Lease) -> None:
    tracks = make_tracks(3)
    job = make_job(tracks, ALL)
    chunk = chunks.claim(job, lease)
    assert chunk
    with explained() as plans:
        chunks.commit(job, lease, chunk, [success(tracks[0], *ALL)], 1.0)
    wanted = ("INTEGER PRIMARY KEY (rowid=?)", "(job_id=? AND track_id=?)")
    assert plans
    assert [plan for plan in plans if not plan.endswith(wanted)] == []


def test_new_turn_finds_what_was_abandoned_by_the_index_of_running_results(lease: Lease) -> None:
    job = make_job(make_tracks(1))
    with explained() as plans:
        chunks.release_abandoned(job, lease)
    assert "result_running" in plans[0]


def test_planning_compares_files_by_an_index_and_reads_no_vector(lease: Lease) -> None:
    job = make_job(make_tracks(3), ALL)
    BatchJob.objects.filter(pk=job.pk).update(planned=False, planned_until=" ")  # the library has been read
    job.refresh_from_db()
    with explained("SEARCH e_") as plans:
        planner.plan(job, lease, lease.renew)
    files = "COVERING INDEX embedding_file (space_id=? AND track_id=? AND size=? AND mtime=?)"
    assert {index(plan).removesuffix(" LEFT-JOIN") for plan in plans} == {files}
