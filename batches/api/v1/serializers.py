"""What jobs and results look like from outside."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from batches.models import BatchJob, ModelProgress
from batches.requests import LARGEST_NUMBER, LONGEST_PATH
from batches.selectors.progress import Snapshot, snapshot
from embeddings.encoders.registry import MODEL_KEYS

JOB = {
    "id": 12,
    "status": "running",
    "message": "",
    "model_keys": ["muq", "mert", "latent"],
    "clear_existing": False,
    "retry_bad_files": False,
    "limit": None,
    "library_id": None,
    "path_prefix": "",
    "only_track": "",
    "only_failed": False,
    "failed_with": "",
    "started_by": "admin",
    "created_at": "2026-11-25T20:00:00Z",
    "started_at": "2026-11-25T20:00:02Z",
    "finished_at": None,
    "next_try_at": None,
    "current_track": "[mert] Erik Satie - Gymnopédie No. 1",
    "total_tracks": 5000,
    "processed_tracks": 1200,
    "failed_tracks": 1,
    "progress": {
        "total_operations": 15000,
        "processed_operations": 3603,
        "failed_operations": 3,
        "percent": 24.02,
        "speed": 980.5,
        "seconds_left": 929.0,
    },
    "models": [
        {
            "model": "muq",
            "space": 4,
            "total": 5000,
            "succeeded": 1200,
            "failed": 1,
            "skipped": {"up to date": 310},
            "rate": 5400.2,
            "reconciled": {},
            "left_out": "",
        }
    ],
}


class ModelProgressSerializer(serializers.ModelSerializer[ModelProgress]):
    """A job's counters for one model. ``rate``: seconds of audio per second of work, lately."""

    skipped = serializers.DictField(
        child=serializers.IntegerField(), help_text="Tracks that need no work, by reason.", read_only=True
    )
    reconciled = serializers.DictField(help_text="Differences to Milvus, found and mended, by moment.", read_only=True)

    class Meta:
        model = ModelProgress
        fields = ["model", "space", "total", "succeeded", "failed", "skipped", "rate", "reconciled", "left_out"]
        read_only_fields = fields


class SnapshotSerializer(serializers.Serializer[Snapshot]):
    """How far a job is, over all models. An operation is a track × model pair."""

    total_operations = serializers.IntegerField()
    processed_operations = serializers.IntegerField()
    failed_operations = serializers.IntegerField()
    percent = serializers.FloatField(min_value=0, max_value=100)
    speed = serializers.FloatField(
        allow_null=True, help_text="Seconds of audio, through all models, per second of work; null: not measured yet."
    )
    seconds_left = serializers.FloatField(allow_null=True, help_text="Null before something has been measured.")

    def to_representation(self, instance: Any) -> dict[str, Any]:
        return super().to_representation(snapshot(instance))


@extend_schema_serializer(examples=[OpenApiExample("A job at work", JOB)])
class JobSerializer(serializers.ModelSerializer[BatchJob]):
    """A job with its counters."""

    model_keys = serializers.ListField(child=serializers.ChoiceField(choices=MODEL_KEYS), read_only=True)
    progress = SnapshotSerializer(source="*", read_only=True)
    models = ModelProgressSerializer(source="progress", many=True, read_only=True)

    class Meta:
        model = BatchJob
        fields = [
            "id", "status", "message", "model_keys", "clear_existing", "retry_bad_files", "limit", "library_id",
            "path_prefix", "only_track", "only_failed", "failed_with", "started_by", "created_at", "started_at",
            "finished_at", "next_try_at", "current_track", "total_tracks", "processed_tracks", "failed_tracks",
            "progress", "models",
        ]  # fmt: skip
        read_only_fields = fields


class ModelsSerializer(serializers.Serializer[dict[str, Any]]):
    """Which models; none means all of them."""

    models = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_KEYS),
        required=False,
        default=list,
        max_length=len(MODEL_KEYS),
        help_text="None means all.",
    )


@extend_schema_serializer(
    examples=[
        OpenApiExample("All that is missing", {}, request_only=True),
        OpenApiExample(
            "A hundred tracks of one folder",
            {"models": ["muq"], "limit": 100, "path_prefix": "/music/Satie/"},
            request_only=True,
        ),
    ]
)
class NewJobSerializer(ModelsSerializer):
    """What a new job is to do; an empty body means everything that is missing or has changed."""

    clear_existing = serializers.BooleanField(
        required=False, default=False, help_text="Embed everything anew, beside the vectors that search uses."
    )
    retry_bad_files = serializers.BooleanField(
        required=False, default=False, help_text="Try files again that could not be embedded and have not changed."
    )
    limit = serializers.IntegerField(
        required=False,
        allow_null=True,
        default=None,
        min_value=1,
        max_value=LARGEST_NUMBER,
        help_text="At most so many tracks.",
    )
    library_id = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=LARGEST_NUMBER,
        help_text="Only Navidrome's library of this id.",
    )  # fmt: skip
    path_prefix = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=LONGEST_PATH,
        trim_whitespace=False,
        help_text="Only files whose absolute path begins so.",
    )


class ModelPreviewSerializer(serializers.Serializer[dict[str, Any]]):
    """What one model would do."""

    model = serializers.CharField()
    dimension = serializers.IntegerField()
    fingerprint_changed = serializers.BooleanField(
        help_text="Its weights or recipe are not those of what search uses now: everything is embedded anew."
    )
    problem = serializers.CharField(allow_blank=True, help_text="Why its weights cannot be used now.")
    download_bytes = serializers.IntegerField(allow_null=True, help_text="That `fetch_models` would download.")
    tracks = serializers.DictField(child=serializers.IntegerField(), help_text="By what is to happen to them.")
    gone = serializers.IntegerField(help_text="Embeddings of tracks that the library does not show.")
    audio_seconds = serializers.FloatField()
    work_seconds = serializers.FloatField(allow_null=True, help_text="Null while nothing has been measured.")
    vectors = serializers.IntegerField(help_text="That come on top of those there are.")
    database_bytes = serializers.IntegerField()
    index_bytes = serializers.IntegerField()


class DiskNeedSerializer(serializers.Serializer[dict[str, Any]]):
    """What a file system would have to take."""

    path = serializers.CharField()
    needed_bytes = serializers.IntegerField()
    free_bytes = serializers.IntegerField()
    fits = serializers.BooleanField()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A job over new tracks",
            {
                "tracks": 5000,
                "work_seconds": 929.5,
                "models": {
                    "muq": {
                        "model": "muq",
                        "dimension": 1536,
                        "fingerprint_changed": False,
                        "problem": "",
                        "download_bytes": 0,
                        "tracks": {
                            "new": 40,
                            "changed": 2,
                            "failed before": 1,
                            "anew": 0,
                            "new id": 0,
                            "same audio": 0,
                            "bad file": 2,
                            "up to date": 4955,
                        },
                        "gone": 3,
                        "audio_seconds": 10320.0,
                        "work_seconds": 929.5,
                        "vectors": 41,
                        "database_bytes": 346204,
                        "index_bytes": 528998,
                    }
                },
                "disks": [{"path": "/var/lib/navembed", "needed_bytes": 875202, "free_bytes": 812e8, "fits": True}],
            },
        )
    ]
)
class PreviewSerializer(serializers.Serializer[dict[str, Any]]):
    """What a job would do."""

    tracks = serializers.IntegerField(help_text="In the library, as far as the job may touch it.")
    work_seconds = serializers.FloatField(allow_null=True)
    models = serializers.DictField(child=ModelPreviewSerializer(), help_text="By model.")
    disks = DiskNeedSerializer(many=True)


class JobFilter(serializers.Serializer[dict[str, Any]]):
    """Query of the list of jobs."""

    status = serializers.MultipleChoiceField(choices=BatchJob.Status.choices, required=False)
    started_by = serializers.CharField(required=False, max_length=150, help_text="Name of a user or a token.")
    created_after = serializers.DateTimeField(required=False, help_text="At this moment or later.")
    created_before = serializers.DateTimeField(required=False, help_text="Before this moment.")
