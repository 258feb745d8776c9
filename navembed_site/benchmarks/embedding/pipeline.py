"""A whole job in a scratch instance, from files to committed and indexed vectors: who worked, who waited."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from navembed_site.benchmarks.http import END_SECONDS, Scratch, running, wait
from navembed_site.benchmarks.scratch import StepFailed, python

if TYPE_CHECKING:
    from navembed_site.benchmarks.embedding.measure import Effort, Figure

STAGES = """
import json, django
django.setup()
from embeddings.embedder.states import embedder_states
print(json.dumps([[*key, seconds] for state in embedder_states() for key, seconds in state.stage_seconds.items()]))
"""


def pipeline(effort: Effort, tracks: int, folder: Path | None = None) -> Iterator[Figure]:
    """Yield what the job took and the share of that time in which each stage was busy. Raises StepFailed."""
    from navembed_site.benchmarks.embedding.measure import Figure

    device = {"TEXT_EMBEDDING_DEVICE": effort.device}
    with (
        tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home,
        running(Path(home), tracks, size=effort.size, **device) as scratch,
    ):
        began = time.monotonic()
        scratch.call("POST", "/batch/start", {})
        wait(lambda: has_ended(scratch), END_SECONDS)
        taken = time.monotonic() - began
        stages = {(stage, model): seconds for stage, model, seconds in stages_of(scratch)}
    loading = stages.pop(("load", ""), 0.0)
    working = taken - loading
    yield Figure(f"{tracks} tracks of a minute to indexed vectors, models loaded", working, "s")
    yield Figure("a track", working / tracks, "s")
    for (stage, model), seconds in sorted(stages.items()):
        yield Figure(f"{stage} {model}".strip(), 100 * seconds / working, "% of the time")
    busy = sum(seconds for (stage, _), seconds in stages.items() if stage == "encode")
    yield Figure("the device had nothing to do", 100 * (1 - busy / working), "% of the time")


def has_ended(scratch: Scratch) -> bool:
    status = scratch.call("GET", "/batch/progress")["status"]
    if status in ("failed", "cancelled", "completed_with_errors"):
        raise StepFailed(f"the batch ended as {status}")
    return bool(status == "completed")


def stages_of(scratch: Scratch) -> list[tuple[str, str, float]]:
    environment = {**scratch.environment, "DJANGO_SETTINGS_MODULE": "navembed_site.settings"}
    found: list[tuple[str, str, float]] = json.loads(python("-c", STAGES, environment=environment))
    return found
