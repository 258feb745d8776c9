"""A batch job and all that it must remember to survive anything."""

from __future__ import annotations

from django.db import models
from django.db.models import Case, F, Q, Value, When

from embeddings.models import EmbeddingSpace, Track

TERMINAL = ["completed", "completed_with_errors", "cancelled", "failed"]


class Leased(models.Model):
    """What one process at a time works on: the one that advanced ``seq`` holds it until ``lease_until``.

    Only ``batches.engine.leases`` writes these fields.
    """

    seq = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)

    class Meta:
        abstract = True


class Host(models.Model):
    """A machine that works for this instance: a NAVEMBED_HOME with a worker and embedders of its own."""

    key = models.CharField(primary_key=True, max_length=16, help_text="As its NAVEMBED_HOME keeps it.")
    name = models.CharField(max_length=255, help_text="Name of the machine.")
    seen_at = models.DateTimeField(help_text="Last sign of life of its worker, by the database's clock.")

    def __str__(self) -> str:
        return self.name


class Device(Leased):
    """What computes on a host, and its place in the work.

    A message carries (device, seq); one that no longer matches is stale and does nothing.
    """

    host = models.ForeignKey(Host, models.CASCADE, related_name="devices")
    index = models.PositiveSmallIntegerField(help_text="Number of the embedder on its host.")
    kind = models.CharField(max_length=64, blank=True, help_text="As PyTorch names it.")
    loaded = models.JSONField(default=list, help_text="Keys of the models in its memory.")
    rates = models.JSONField(default=dict, help_text="Rolling, by model: seconds of audio per second of work.")
    fingerprints = models.JSONField(default=dict, help_text="By model, of the vectors that it has made last.")
    problem = models.TextField(blank=True, help_text="Why it cannot work at present.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "index"], name="one_device_per_host_and_index")]

    def __str__(self) -> str:
        return f"device {self.index} of {self.host}"


class BatchJob(Leased):
    """One run over the library.

    queued → initialized → running ⇄ waiting; from the last three → pausing → paused → initialized (resumed) and
    → cancelling → cancelled; queued and paused → cancelled; running → completed, completed_with_errors or failed;
    cancelled and failed (resumed), completed_with_errors (retried) → initialized, or queued behind another job.
    Only ``batches.services`` changes the status.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"  # behind another job
        INITIALIZED = "initialized"  # the active job; no track is embedded yet
        RUNNING = "running"  # tracks are being embedded
        WAITING = "waiting"  # something outside is away; goes on by itself
        PAUSING = "pausing"  # pauses after the device batch in hand
        PAUSED = "paused"  # stays the active job; goes on when somebody resumes it
        CANCELLING = "cancelling"  # stops after the device batch in hand
        COMPLETED = "completed"  # everything that it tried succeeded
        COMPLETED_WITH_ERRORS = "completed_with_errors"  # some tracks failed, or a model was left out
        CANCELLED = "cancelled"  # stopped by somebody; keeps what it did
        FAILED = "failed"  # could not go on; `message` says why

    ADVANCING = (Status.INITIALIZED, Status.RUNNING, Status.WAITING)  # devices take it further
    ACTIVE = (*ADVANCING, Status.PAUSING, Status.CANCELLING)  # devices are wanted
    HOLDS_SLOT = (*ACTIVE, Status.PAUSED)  # is the one active job
    OPEN = (*HOLDS_SLOT, Status.QUEUED)
    RESUMABLE = (Status.PAUSING, Status.PAUSED, Status.CANCELLED, Status.FAILED)

    model_keys = models.JSONField(help_text="Keys of the models, in order.")
    clear_existing = models.BooleanField(default=False)
    limit = models.PositiveIntegerField(null=True, blank=True)
    library_id = models.IntegerField(null=True, blank=True)
    path_prefix = models.TextField(blank=True)
    only_track = models.CharField(max_length=255, blank=True, help_text="Id of the one track that it may touch.")
    only_failed = models.BooleanField(default=False, help_text="Only what has failed and is not acknowledged.")
    failed_with = models.TextField(blank=True, help_text="Of these, only what failed with a message that begins so.")
    retry_bad_files = models.BooleanField(default=False, help_text="Try files again that are known to be bad.")
    started_by = models.CharField(max_length=150, blank=True)
    idempotency_key = models.CharField(max_length=200, blank=True, help_text="By which its caller knows it.")

    status = models.CharField(max_length=24, choices=Status, default=Status.INITIALIZED)
    message = models.TextField(blank=True, help_text="What it waits for, why it failed, what is left to a human.")
    next_try_at = models.DateTimeField(null=True, blank=True, help_text="While waiting: when it looks again, if known.")
    current_track = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    holder = models.ForeignKey(
        Device, models.SET_NULL, null=True, related_name="+", help_text="Holds the lease: plans or completes the job."
    )
    planned_until = models.CharField(max_length=255, blank=True, help_text="Last track id the planner has seen.")
    planned = models.BooleanField(default=False)
    plans = models.PositiveSmallIntegerField(default=0, help_text="Times the whole library has been planned.")
    total_tracks = models.PositiveIntegerField(default=0)
    processed_tracks = models.PositiveIntegerField(default=0)
    failed_tracks = models.PositiveIntegerField(default=0)
    embedder_seconds = models.FloatField(default=0, help_text="That devices' work took in the embedder, all together.")
    decode_seconds = models.FloatField(default=0, help_text="Of these, in which devices waited for files to be read.")
    device_seconds = models.FloatField(default=0, help_text="Of these, in which devices worked.")
    database_seconds = models.FloatField(default=0, help_text="In the database.")
    index_seconds = models.FloatField(default=0, help_text="In Milvus.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Case(
                    When(
                        status__in=["initialized", "running", "waiting", "pausing", "paused", "cancelling"],
                        then=Value(1),
                    )
                ),
                name="one_active_job",
            ),
            models.CheckConstraint(
                condition=Q(status__in=TERMINAL, finished_at__isnull=False)
                | Q(~Q(status__in=TERMINAL), finished_at=None),
                name="ended_jobs_have_an_end",
            ),
            models.CheckConstraint(
                condition=Q(total_tracks__gte=F("processed_tracks") + F("failed_tracks")),
                name="no_more_tracks_done_than_there_are",
            ),
            models.UniqueConstraint(
                fields=["started_by", "idempotency_key"],
                condition=~Q(idempotency_key=""),
                name="one_job_per_caller_and_key",
            ),
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"Job {self.pk} ({', '.join(self.model_keys)})"

    @property
    def is_open(self) -> bool:
        return self.status in self.OPEN

    @property
    def is_restricted(self) -> bool:
        """Whether the job may touch only a part of the library."""
        parts = self.limit, self.library_id is not None, self.path_prefix, self.only_track, self.only_failed
        return any(parts)


class JobEvent(models.Model):
    """Something that happened to a job; ``batches.events`` writes them, and puts them into words."""

    class Kind(models.TextChoices):
        ASKED = "asked"  # somebody, or the schedule, wants it done
        STARTED = "started"  # the first track was begun
        PAUSING = "pausing"  # asked to pause
        PAUSED = "paused"  # every device has put down what it had
        RESUMED = "resumed"  # goes on where it was
        CANCELLING = "cancelling"  # asked to stop
        RETRIED = "retried"  # failures are tried again
        WAITING = "waiting"  # something outside is away
        WORKER_DIED = "worker died"  # this host's worker was killed, or the machine went off
        DEVICE_LOST = "device lost"  # another host's device is gone
        EMBEDDER_DIED = "embedder died"  # on tracks that it had in hand
        LEFT_OUT = "left out"  # the job goes on without a model
        SWITCHED = "switched"  # search uses the new vectors
        ENDED = "ended"  # the detail says how

    job = models.ForeignKey(BatchJob, models.CASCADE, related_name="events")
    kind = models.CharField(max_length=16, choices=Kind)
    at = models.DateTimeField(help_text="When it happened first.")
    until = models.DateTimeField(null=True, help_text="When it happened last, or a wait was over.")
    times = models.PositiveIntegerField(default=1, help_text="How often it happened with nothing else in between.")
    detail = models.TextField(blank=True)
    by = models.CharField(max_length=150, blank=True, help_text="Name of who asked for it.")
    via = models.CharField(max_length=16, blank=True, help_text="How it was asked for: console, api, …")

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.kind} of job {self.job_id}"

    @property
    def seconds(self) -> float | None:
        """How long a wait took, once it is over."""
        return (self.until - self.at).total_seconds() if self.until else None


class ModelProgress(models.Model):
    """A job's counters for one model; written in the transaction of the results they count."""

    job = models.ForeignKey(BatchJob, models.CASCADE, related_name="progress")
    model = models.CharField(max_length=32)
    space = models.ForeignKey(EmbeddingSpace, models.SET_NULL, null=True)
    total = models.PositiveIntegerField(default=0)
    succeeded = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    skipped = models.JSONField(default=dict, help_text="Tracks that need no work, by reason.")
    audio_seconds_total = models.FloatField(default=0)
    audio_seconds_done = models.FloatField(default=0)
    rate = models.FloatField(null=True, help_text="Rolling: seconds of audio per second of work.")
    reconciled = models.JSONField(default=dict, help_text="Differences to Milvus, found and mended, by moment.")
    left_out = models.TextField(blank=True, help_text="Why the job goes on without this model; it cannot be loaded.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "model"], name="one_progress_per_job_and_model"),
            models.CheckConstraint(
                condition=Q(total__gte=F("succeeded") + F("failed")), name="no_more_results_than_there_are"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.model} of job {self.job_id}"


class TrackResult(models.Model):
    """One job × track × model that needs work.

    pending → running → succeeded or failed; running → pending when its holder died or the error may pass;
    failed → pending by retry. What turns out to be away while the job runs is deleted.
    """

    class Status(models.TextChoices):
        PENDING = "pending"  # not yet claimed
        RUNNING = "running"  # claimed by a device
        SUCCEEDED = "succeeded"  # its embedding was committed with it
        FAILED = "failed"  # given up; the error says why

    class Reason(models.TextChoices):
        NEW = "new"  # there is no vector
        CHANGED = "changed"  # the file has changed since
        FAILED_BEFORE = "failed before"  # there is no vector because it failed
        ANEW = "anew"  # asked for

    OPEN = (Status.PENDING, Status.RUNNING)

    # No index of its own: it begins the unique one, and SQLite would prefer it to the partial ones.
    job = models.ForeignKey(BatchJob, models.CASCADE, db_index=False, related_name="results")
    track = models.ForeignKey(Track, models.CASCADE, related_name="results")
    model = models.CharField(max_length=32)
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    reason = models.CharField(max_length=13, choices=Reason, default=Reason.NEW)
    recognised = models.BooleanField(default=False, help_text="The audio was known by its hash: nothing was computed.")
    attempts = models.PositiveSmallIntegerField(default=0, help_text="Counted when claimed.")
    deaths = models.PositiveSmallIntegerField(default=0, help_text="Times the embedder died on its chunk.")
    chunk_limit = models.PositiveSmallIntegerField(
        null=True, help_text="Most tracks in its next chunk; halved each time the embedder died on it."
    )
    device = models.ForeignKey(
        Device, models.PROTECT, db_index=False, null=True, related_name="+", help_text="Has claimed it, while running."
    )
    not_before = models.DateTimeField(null=True, help_text="Pause before the next attempt.")
    error_class = models.CharField(max_length=64, blank=True)
    error_message = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    note = models.TextField(
        blank=True, db_default="", help_text="What of the file was not heard as it is, though it has a vector."
    )
    seconds = models.FloatField(null=True, help_text="Of work on the device.")
    precision = models.CharField(
        max_length=8,
        blank=True,
        db_default="",
        help_text="In which the network computed: float32, bfloat16, float16.",
    )
    audio_seconds = models.FloatField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "track", "model"], name="one_result_per_job_track_model"),
            models.CheckConstraint(
                condition=Q(status="running", device__isnull=False) | Q(~Q(status="running"), device=None),
                name="running_results_have_a_device",
            ),
        ]
        indexes = [
            # One status each: SQLite does not see that `status = 'pending'` is within an IN of two.
            models.Index(fields=["job", "track", "model"], condition=Q(status="pending"), name="result_pending"),
            models.Index(fields=["job", "device"], condition=Q(status="running"), name="result_running"),
            models.Index(fields=["track", "model"], condition=Q(status="failed"), name="result_failed"),
            models.Index(fields=["job", "track", "model"], condition=Q(status="failed"), name="result_failed_of_job"),
            models.Index(fields=["job", "track", "model"], condition=~Q(note=""), name="result_note"),
        ]

    def __str__(self) -> str:
        return f"{self.model} of {self.track_id}: {self.status}"
