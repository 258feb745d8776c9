"""Completes a job: prunes deleted tracks, reconciles Milvus with the database, examines builds and makes them live.

Everything here may be interrupted anywhere and begun again. ``raise_if_stopped`` is called about once a second;
it renews the lease, and stops the work by raising.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator

from django.db import transaction
from django.db.models import Q, QuerySet

from batches import events, services
from batches.engine.plan import plan_again
from batches.models import BatchJob, ModelProgress, TrackResult
from batches.tasks import want_upkeep
from embeddings.errors import SwitchRefused
from embeddings.index.sync import Reconciliation, counts_agree, ensure_live_aliases, index_pending, reconcile, seal
from embeddings.library.away import away_text
from embeddings.library.bad_files import bad_for
from embeddings.models import EmbeddingSpace, Track
from embeddings.search.calibration import calibrate
from embeddings.search.deadline import Deadline
from embeddings.spaces.lifecycle import make_live
from embeddings.spaces.promotion import examine, keep_old_vectors
from embeddings.spaces.pruning import prune
from navembed_site.process.slow_calls import RaiseIfStopped

logger = logging.getLogger(__name__)


def complete(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
    """End a job of which every track has been tried; one that builds may get more to do instead.

    Raises SwitchRefused when a build must not be used, IndexUnavailable.
    """
    builds = [space for _, space in _spaces(job) if space.status == EmbeddingSpace.Status.BUILDING]
    if builds and plan_again(job):
        return
    for build in builds:
        keep_old_vectors(build, _given_up(job, build), raise_if_stopped=raise_if_stopped)
    notes = [] if job.is_restricted else [*_prune(job, raise_if_stopped), away_text()]
    index(job, raise_if_stopped)
    reconcile_with_milvus(job, "end", raise_if_stopped)
    for _, space in _spaces(job):
        seal(space, raise_if_stopped)
        raise_if_stopped()
    notes += _switch(job, builds, raise_if_stopped)
    for _, space in _spaces(job):
        calibrate(space, deadline=Deadline(math.inf, raise_if_stopped))
    point_aliases(raise_if_stopped)
    with transaction.atomic():
        raise_if_stopped()  # who has lost the job meanwhile does not end it: its successor may have found more to do
        services.set_completed(job, " ".join(filter(None, notes)))
        want_upkeep()


def index(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
    """Send to Milvus what it does not have yet."""
    for _, space in _spaces(job):
        index_pending(space, raise_if_stopped=raise_if_stopped)


def reconcile_once(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> None:
    """Before the first chunk: where Milvus holds more or less than it should, find out what, and mend it."""
    for progress, space in _spaces(job):
        if "start" not in progress.reconciled and counts_agree(space):
            _write_down(progress, "start", Reconciliation(0, 0))
    reconcile_with_milvus(job, "start", raise_if_stopped)


def reconcile_with_milvus(job: BatchJob, moment: str, raise_if_stopped: RaiseIfStopped) -> None:
    """Compare every id of the job's spaces with Milvus and mend what differs, once for each ``moment``."""
    for progress, space in _spaces(job):
        if moment in progress.reconciled:
            continue
        found = reconcile(space, raise_if_stopped)
        if any(found):
            logger.warning("job %d: %s differed from Milvus and was mended: %s", job.pk, space, found)
            index_pending(space, raise_if_stopped=raise_if_stopped)
        _write_down(progress, moment, found)


def _write_down(progress: ModelProgress, moment: str, found: Reconciliation) -> None:
    progress.reconciled[moment] = found._asdict()
    ModelProgress.objects.filter(pk=progress.pk).update(reconciled=progress.reconciled)


def point_aliases(raise_if_stopped: RaiseIfStopped) -> None:
    """Points the aliases in Milvus at the live collections."""
    if problem := ensure_live_aliases(raise_if_stopped=raise_if_stopped):
        logger.warning("%s", problem)


def _switch(job: BatchJob, builds: Iterable[EmbeddingSpace], raise_if_stopped: RaiseIfStopped) -> Iterator[str]:
    """Makes the builds that pass live, all at once; yields what people should know."""
    good, problems = [], []
    for build in builds:
        found = examine(build, _given_up(job, build), raise_if_stopped=raise_if_stopped)
        if found.passed:
            good.append(build)
            if found.overlap is not None:
                yield f"{build.model}: {found.overlap:.0%} of the neighbours are those of the former vectors."
        elif found.needs_yes:
            yield (
                f"{build.model}: search goes on with the former vectors: {'; '.join(found.problems)}. "
                f"`manage.py spaces --make-live {build.model}` uses the new ones nevertheless."
            )
        else:
            problems.append(f"the new {build.model} vectors cannot be used: {'; '.join(found.problems)}")
    with transaction.atomic():
        raise_if_stopped()
        make_live(good)
        if good:
            events.note(job, events.Kind.SWITCHED, ", ".join(build.model for build in good))
    if problems:
        point_aliases(raise_if_stopped)
        raise SwitchRefused("; ".join(problems))


def _prune(job: BatchJob, raise_if_stopped: RaiseIfStopped) -> Iterator[str]:
    for progress, space in _spaces(job):
        found = prune(space, raise_if_stopped)
        if found.held:
            yield found.held
        elif found.pruned:
            progress.skipped["pruned"] = progress.skipped.get("pruned", 0) + found.pruned
            ModelProgress.objects.filter(pk=progress.pk).update(skipped=progress.skipped)


def _given_up(job: BatchJob, space: EmbeddingSpace) -> QuerySet[Track, str]:
    """Return the ids of the tracks that failed in this job, or that it did not try because they are known to be bad."""
    failed = TrackResult.objects.filter(job=job, model=space.model, status=TrackResult.Status.FAILED)
    tracks = Track.objects.filter(Q(pk__in=failed.values("track_id")) | Q(pk__in=bad_for(space)))
    return tracks.values_list("pk", flat=True)


def _spaces(job: BatchJob) -> list[tuple[ModelProgress, EmbeddingSpace]]:
    rows = job.progress.filter(left_out="").select_related("space")
    return [(progress, progress.space) for progress in rows if progress.space]
