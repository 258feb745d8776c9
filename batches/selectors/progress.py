"""How far a job is: percentages, rates, the time that remains. Reads counters, never counts rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from batches.engine import hosts, pace
from batches.engine.pace import Rates
from batches.models import TERMINAL, BatchJob, ModelProgress


@dataclass(frozen=True)
class Snapshot:
    """A job's counters at one moment. ``operations`` are track × model pairs."""

    total_operations: int
    processed_operations: int
    failed_operations: int
    percent: float
    speed: float | None
    """Seconds of audio, through all models, per second lately; None while not all have been measured."""
    seconds_left: float | None
    """None before the plan stands and something has been measured; 0 when the job has ended."""


def snapshot(job: BatchJob) -> Snapshot:
    """Return where ``job`` stands."""
    return _snapshot(job, list(job.progress.all()))


def _snapshot(job: BatchJob, rows: list[ModelProgress]) -> Snapshot:
    total = sum(row.total for row in rows)
    failed = sum(row.failed for row in rows)
    finished = failed + sum(row.succeeded for row in rows)
    percent = 100.0 * finished / total if total else (100.0 if job.planned else 0.0)
    return Snapshot(
        total_operations=total,
        processed_operations=finished,
        failed_operations=failed,
        percent=min(100.0, round(percent, 2)),
        speed=_speed(rows, rates := _rates(job, rows)),
        seconds_left=_seconds_left(job, rows, rates) if job.is_open else 0.0,
    )


def _rates(job: BatchJob, rows: list[ModelProgress]) -> list[Rates]:
    """Return those of each device that works and has been measured; else what the job itself has shown."""
    models = {row.model for row in rows if row.total}
    devices = hosts.at_work() if job.status in BatchJob.ADVANCING else ()
    measured = [device.rates for device in devices if models <= device.rates.keys()]
    return measured or [{row.model: row.rate for row in rows if row.rate}]


def _speed(rows: list[ModelProgress], rates: list[Rates]) -> float | None:
    seconds = pace.seconds_for({row.model: 1.0 for row in rows if row.total}, rates)
    return 1 / seconds if seconds else None


def _seconds_left(job: BatchJob, rows: list[ModelProgress], rates: list[Rates]) -> float | None:
    """What the remaining audio weighs, model by model, at the rates that devices have shown lately."""
    return pace.seconds_for(pace.audio_left(rows), rates) if job.planned else None


CONTRACT_STATUS = {  # a status it does not know keeps the panel polling for ever
    BatchJob.Status.QUEUED: "initialized",
    BatchJob.Status.WAITING: "running",
    BatchJob.Status.PAUSING: "running",
    BatchJob.Status.PAUSED: "running",
    BatchJob.Status.CANCELLING: "running",
}


def _shown(job: BatchJob, rows: list[ModelProgress]) -> str:
    """Return what the panel shows of a job beside its figures: there is no other place for the truth."""
    left_out = [row.model for row in rows if row.left_out]
    if job.status == BatchJob.Status.RUNNING:
        doing = job.message or job.current_track
        return f"{doing} (without {', '.join(left_out)})" if left_out else doing
    if job.status == BatchJob.Status.COMPLETED:
        return ""
    if job.status in (BatchJob.Status.INITIALIZED, *TERMINAL):
        return job.message
    return f"{job.status}: {job.message}" if job.message else str(job.status)


def contract_progress(job: BatchJob | None) -> dict[str, Any]:
    """The reply of ``GET /batch/progress``."""
    if job is None:
        return {"status": "no_job"}
    rows = list(job.progress.all())
    now = _snapshot(job, rows)
    goes_on = job.status == BatchJob.Status.RUNNING
    return {
        "job_id": job.pk,
        "status": CONTRACT_STATUS.get(BatchJob.Status(job.status), job.status),
        "state": job.status,
        "message": job.message or None,
        "total_tracks": job.total_tracks,
        "processed_tracks": job.processed_tracks,
        "failed_tracks": job.failed_tracks,
        "total_operations": now.total_operations,
        "processed_operations": now.processed_operations,
        "failed_operations": now.failed_operations,
        "progress_percent": now.percent,
        "current_track": _shown(job, rows) or None,
        "started_at": job.started_at.timestamp() if job.started_at else None,
        "estimated_completion": time.time() + now.seconds_left if goes_on and now.seconds_left is not None else None,
    }
