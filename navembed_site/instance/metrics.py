"""What Prometheus is told: read from the database and asked of the embedders, so any web process says the same.

Millions of rows are never counted for a scrape: there are counters, limits, and figures that are remembered.
"""

from __future__ import annotations

import platform
import socket
from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.db import Error as DatabaseError
from django.db.models import Count, Sum
from django_q.models import OrmQ
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from batches.engine.hosts import queue_of
from batches.models import BatchJob, ModelProgress, TrackResult
from batches.selectors.hosts import hosts
from batches.selectors.progress import snapshot
from batches.services import open_job
from embeddings.embedder.states import EmbedderState, embedder_states
from embeddings.models import Embedding, EmbeddingSpace, Track, Upload, UploadEmbedding
from navembed_site import VERSION
from navembed_site.http.remembered import Remembered
from navembed_site.instance.programs import programs
from navembed_site.process.host import host_key

MOST_COUNTED = 10_000  # rows that are looked at one by one; a gauge that stands there means as many or more
CONNECT_SECONDS = 1.0
INDEXED = Embedding.IndexState.INDEXED


class InstanceCollector(Collector):
    """Everything about this instance at one moment; what is away is down, and the rest is told."""

    def collect(self) -> Iterator[Metric]:
        states = embedder_states()
        yield InfoMetricFamily(
            "navembed_build", "What runs here.", {"version": VERSION, "python": platform.python_version()}
        )
        try:
            rows = [*_jobs(), *_operations(), *_queues(), *_hosts(), *_uploads(), *_errors(), *_library_counts.get()]
        except DatabaseError:
            rows = []
        yield _up(states, database=bool(rows))
        yield from rows
        yield from _models(states)
        yield _stages(states)


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"navembed_{name}", text, labels=labels)


def _up(states: list[EmbedderState], *, database: bool) -> Metric:
    up = _gauge("up", "Whether a process of this instance, or what it needs, answers.", "process")
    up.add_metric(["database"], database)
    for program in programs().values():
        if program.kind != "embedder":
            up.add_metric([program.name], program.is_ready)
    for state in states:
        up.add_metric([f"embedder-{state.device}"], state.answers)
    if settings.MILVUS_URI:
        up.add_metric(["milvus"], _accepts(settings.MILVUS_URI))
    return up


def _accepts(uri: str) -> bool:
    """Whether a server listens at an address like ``http://milvus:19530``."""
    place = urlsplit(uri)
    try:
        with socket.create_connection((place.hostname or "", place.port or 19530), CONNECT_SECONDS):
            return True
    except OSError:
        return False


def _jobs() -> Iterator[Metric]:
    """How many jobs are in which state, and how far the active one is."""
    states = _gauge("jobs", "Jobs by state.", "status")
    found = dict(BatchJob.objects.order_by().values_list("status").annotate(Count("pk")))
    for status in BatchJob.Status.values:
        states.add_metric([status], found.get(status, 0))
    yield states
    job = open_job()
    if job is None:
        return
    now = snapshot(job)
    tracks = _gauge("job_tracks", "Tracks of the unfinished job.", "state")
    tracks.add_metric(["total"], job.total_tracks)
    tracks.add_metric(["processed"], job.processed_tracks)
    tracks.add_metric(["failed"], job.failed_tracks)
    yield tracks
    pending = _gauge("job_results_pending", "Track × model pairs that the unfinished job has still to do.", "model")
    for row in job.progress.all():
        pending.add_metric([row.model], max(0, row.total - row.succeeded - row.failed))
    yield pending
    percent = _gauge("job_percent", "Of the unfinished job's track × model pairs.")
    percent.add_metric([], now.percent)
    yield percent
    if now.seconds_left is not None:
        left = _gauge("job_seconds_left", "Of the unfinished job, as measured so far.")
        left.add_metric([], now.seconds_left)
        yield left


def _operations() -> Iterator[Metric]:
    """What all jobs have done together, by their counters; not monotonic, because failures are tried again."""
    tracks = _gauge("tracks_done", "Tracks of all jobs whose every model has ended.", "outcome")
    sums = BatchJob.objects.aggregate(succeeded=Sum("processed_tracks"), failed=Sum("failed_tracks"))
    operations = _gauge("operations_done", "Track × model pairs of all jobs.", "model", "outcome")
    rate = _gauge("rate", "Seconds of audio per second of work, lately.", "model")
    counted = ModelProgress.objects.order_by("model").values_list("model")
    for model, succeeded, failed in counted.annotate(Sum("succeeded"), Sum("failed")):
        operations.add_metric([model, "succeeded"], succeeded)
        operations.add_metric([model, "failed"], failed)
        measured = ModelProgress.objects.filter(model=model, rate__gt=0).order_by("-job_id")
        if last := measured.values_list("rate", flat=True).first():
            rate.add_metric([model], last)
    for outcome, number in sums.items():
        tracks.add_metric([outcome], number or 0)
    yield from (tracks, operations, rate)


def _queues() -> Iterator[Metric]:
    """What waits: messages of Django-Q, embeddings that Milvus does not have."""
    messages = _gauge("queue_messages", "Messages that wait for a worker.", "cluster")
    waiting = dict(OrmQ.objects.order_by().values_list("key").annotate(Count("pk")))
    for cluster in sorted({queue_of(host_key()), "light", *waiting}):
        messages.add_metric([cluster], waiting.get(cluster, 0))
    yield messages
    behind = _gauge(
        "embeddings_not_indexed", f"Embeddings that Milvus has still to take; {MOST_COUNTED} means or more.", "model"
    )
    for space in EmbeddingSpace.objects.filter(status=EmbeddingSpace.Status.LIVE).order_by("model"):
        rows = space.embeddings.exclude(index_state=INDEXED)[:MOST_COUNTED]
        behind.add_metric([space.model], rows.count())
    yield behind


def _hosts() -> Iterator[Metric]:
    """The machines that work for this instance, and how fast their devices are."""
    there = _gauge("host_up", "Whether a host's worker runs.", "host")
    able = _gauge("device_up", "Whether nothing keeps a device from working.", "host", "device")
    rate = _gauge("device_rate", "Seconds of audio per second of work, lately.", "host", "device", "model")
    for host in hosts():
        there.add_metric([host["name"]], host["is_here"])
        for device in host["devices"]:
            labels = [host["name"], str(device["index"])]
            able.add_metric(labels, host["is_here"] and not device["problem"])
            for model, measured in device["rates"].items():
                rate.add_metric([*labels, model], measured)
    yield from (there, able, rate)


def _uploads() -> Iterator[Metric]:
    """What has been uploaded within the month that is kept, and what waits for the library to have it."""
    uploads = _gauge("uploads", "Uploads of the last 30 days.", "outcome")
    found = dict(Upload.objects.order_by().values_list("accepted").annotate(Count("pk")))
    for outcome, accepted in (("accepted", True), ("refused", False)):
        uploads.add_metric([outcome], found.get(accepted, 0))
    yield uploads
    waiting = _gauge("upload_embeddings", "Vectors of uploads that the library does not have yet.")
    waiting.add_metric([], UploadEmbedding.objects.count())
    yield waiting


def _errors() -> Iterator[Metric]:
    """Why tracks of the unfinished job, else of the newest one, have failed."""
    job = open_job() or BatchJob.objects.first()
    errors = _gauge(
        "errors", f"Failed results of the last job by class, of at most {MOST_COUNTED}.", "error_class", "model"
    )
    failed = TrackResult.objects.filter(job=job, status=TrackResult.Status.FAILED)
    rows = failed.values_list("error_class", "model")[:MOST_COUNTED]
    for (error_class, model), number in sorted(Counter(rows).items()):
        errors.add_metric([error_class, model], number)
    yield errors


def _count_library() -> list[Metric]:
    tracks = _gauge("library_tracks", "Tracks that the library showed at the last scan.")
    tracks.add_metric([], Track.objects.filter(playable=True).count())
    vectors = _gauge("embeddings", "Embeddings by model and state of their space.", "model", "status")
    counted = EmbeddingSpace.objects.order_by("model", "status").values_list("model", "status")
    for model, status, number in counted.annotate(Count("embeddings")):
        vectors.add_metric([model, status], number)
    return [tracks, vectors]


_library_counts = Remembered(_count_library)


def _models(states: list[EmbedderState]) -> Iterator[Metric]:
    """Which models every embedder holds; an embedder that is away says nothing."""
    families = {
        "loaded": _gauge("model_loaded", "Whether a model is in memory.", "embedder", "model", "device"),
        "bytes": _gauge("model_bytes", "Memory that a model holds.", "embedder", "model", "device"),
        "idle_seconds": _gauge("model_idle_seconds", "Since a model's last use.", "embedder", "model", "device"),
        "load_seconds": _gauge("model_load_seconds", "Of the last load.", "embedder", "model", "device"),
    }
    busy = _gauge("embedder_busy", "Whether an embedder works on a job's chunk.", "embedder")
    for state in states:
        if state.answers:
            busy.add_metric([str(state.device)], state.busy)
        for key, model in state.models.items():
            for name, family in families.items():
                family.add_metric([str(state.device), key, model["device"]], model[name])
    yield from (busy, *families.values())


def _stages(states: list[EmbedderState]) -> Metric:
    seconds = CounterMetricFamily(
        "navembed_stage_seconds",
        "Spent since the embedder's start; decoders work side by side, so theirs may pass the clock.",
        labels=("embedder", "stage", "model"),
    )
    for state in states:
        for (stage, model), spent in state.stage_seconds.items():
            seconds.add_metric([str(state.device), stage, model], spent)
    return seconds
