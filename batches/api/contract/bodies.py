"""Bodies of the batch routes that the Go server and the panel speak."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers

from embeddings.encoders.registry import MODEL_KEYS

Body = serializers.Serializer[dict[str, Any]]


@extend_schema_serializer(
    examples=[OpenApiExample("All models", {"models": ["muq", "mert", "latent"], "clearExisting": False})]
)
class StartSerializer(Body):
    """Body of ``POST /batch/start``. Null, absent or empty ``models`` means all of them."""

    models = serializers.ListField(
        child=serializers.ChoiceField(choices=MODEL_KEYS), required=False, allow_null=True, default=None
    )
    clearExisting = serializers.BooleanField(required=False, default=False)  # noqa: N815  (the contract's name)


@extend_schema_serializer(examples=[OpenApiExample("Started", {"status": "started", "job_id": 12})])
class StartedSerializer(Body):
    status = serializers.ChoiceField(choices=["started"])
    job_id = serializers.IntegerField()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Running", {"error": "job 12 is already running; cancel it or wait until it has ended", "job_id": 12}
        )
    ]
)
class AlreadyRunningSerializer(Body):
    """Why nothing was started."""

    error = serializers.CharField()
    job_id = serializers.IntegerField(allow_null=True, required=False)


@extend_schema_serializer(examples=[OpenApiExample("Cancelling", {"status": "cancelling", "job_id": 12})])
class CancellingSerializer(Body):
    status = serializers.ChoiceField(choices=["cancelling"])
    job_id = serializers.IntegerField()


@extend_schema_serializer(
    examples=[
        OpenApiExample("No job ever", {"status": "no_job"}),
        OpenApiExample(
            "A paused job",
            {
                "job_id": 12,
                "status": "running",
                "state": "paused",
                "message": None,
                "total_tracks": 5000,
                "processed_tracks": 1200,
                "failed_tracks": 1,
                "total_operations": 15000,
                "processed_operations": 3603,
                "failed_operations": 3,
                "progress_percent": 24.02,
                "current_track": "[mert] Erik Satie - Gymnopédie No. 1",
                "started_at": 1795636800.0,
                "estimated_completion": None,
            },
        ),
    ]
)
class ContractProgressSerializer(Body):
    """Where the unfinished job stands, else the newest. Without any job, ``status`` is all there is."""

    status = serializers.ChoiceField(
        choices=["no_job", "initialized", "running", "completed", "completed_with_errors", "cancelled", "failed"]
    )
    job_id = serializers.IntegerField(required=False)
    state = serializers.CharField(required=False, help_text="What it really does: paused, waiting, queued …")
    message = serializers.CharField(required=False, allow_null=True)
    total_tracks = serializers.IntegerField(required=False)
    processed_tracks = serializers.IntegerField(required=False)
    failed_tracks = serializers.IntegerField(required=False)
    total_operations = serializers.IntegerField(required=False, help_text="Tracks × models.")
    processed_operations = serializers.IntegerField(required=False)
    failed_operations = serializers.IntegerField(required=False)
    progress_percent = serializers.FloatField(required=False, min_value=0, max_value=100)
    current_track = serializers.CharField(required=False, allow_null=True)
    started_at = serializers.FloatField(required=False, allow_null=True, help_text="Unix seconds.")
    estimated_completion = serializers.FloatField(required=False, allow_null=True, help_text="Unix seconds.")


@extend_schema_serializer(examples=[OpenApiExample("Well", {"status": "ok"})])
class HealthSerializer(Body):
    status = serializers.CharField()


@extend_schema_serializer(examples=[OpenApiExample("Damaged", {"status": "error", "database": "is damaged"})])
class UnhealthySerializer(Body):
    status = serializers.CharField()
    database = serializers.CharField(help_text="What is wrong with it.")
