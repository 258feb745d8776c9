"""The API for people and scripts: jobs, and everything that one can do with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ReadOnlyModelViewSet

from batches import services
from batches.api.permissions import LocalCaller, Operator
from batches.models import BatchJob, ModelProgress
from batches.preview import preview
from batches.progress import snapshot
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.errors import NavembedError


class Conflict(APIException):
    """The job is not in a state that allows this."""

    status_code = status.HTTP_409_CONFLICT


class Unavailable(APIException):
    """Something that is needed for the answer is away."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE


class ModelProgressSerializer(serializers.ModelSerializer[ModelProgress]):
    class Meta:
        model = ModelProgress
        fields = ["model", "space", "total", "succeeded", "failed", "skipped", "rate", "reconciled"]


class JobSerializer(serializers.ModelSerializer[BatchJob]):
    """A job with its counters; ``seconds_left`` and ``speed`` are null while nothing has been measured."""

    models = ModelProgressSerializer(source="progress", many=True, read_only=True)

    class Meta:
        model = BatchJob
        fields = [
            "id", "status", "message", "model_keys", "clear_existing", "limit", "library_id", "path_prefix",
            "started_by", "created_at", "started_at", "finished_at", "current_track", "total_tracks",
            "processed_tracks", "failed_tracks", "models",
        ]  # fmt: skip
        read_only_fields = fields

    def to_representation(self, instance: BatchJob) -> dict[str, Any]:
        now = snapshot(instance)
        figures = {"percent": now.percent, "speed": now.speed, "seconds_left": now.seconds_left}
        return super().to_representation(instance) | figures


class NewJobSerializer(serializers.Serializer[dict[str, Any]]):
    """Body of a new job. No ``models`` means all of them."""

    models = serializers.ListField(child=serializers.ChoiceField(choices=MODEL_KEYS), required=False, default=list)
    clear_existing = serializers.BooleanField(required=False, default=False)
    limit = serializers.IntegerField(required=False, allow_null=True, min_value=1, default=None)
    library_id = serializers.IntegerField(required=False, allow_null=True, default=None)
    path_prefix = serializers.CharField(required=False, allow_blank=True, default="")


class NewestFirst(CursorPagination):
    ordering = "-id"
    page_size = 50


class JobViewSet(ReadOnlyModelViewSet[BatchJob]):
    """Jobs. A new one waits in line when another is unfinished; every action is safe to repeat."""

    authentication_classes = [SessionAuthentication]
    permission_classes = [LocalCaller | Operator]
    serializer_class = JobSerializer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[BatchJob]:
        return BatchJob.objects.prefetch_related("progress")

    def create(self, request: Request) -> Response:
        wanted = _body(request)
        try:
            job = services.start_job(wanted.pop("models"), **wanted, started_by=_name(request), queue=True)
        except services.JobConflict as error:
            raise Conflict(str(error)) from error
        return Response(self.get_serializer(job).data, status.HTTP_201_CREATED)

    @action(detail=False, methods=["post"], url_path="dry-run")
    def dry_run(self, request: Request) -> Response:
        """What a job with this body would do, and why."""
        wanted = _body(request)
        try:
            return Response(preview(wanted.pop("models"), **wanted).as_dict())
        except NavembedError as error:
            raise Unavailable(str(error)) from error

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        return self._do(services.pause_job)

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        return self._do(services.resume_job)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        return self._do(services.cancel_job)

    @action(detail=True, methods=["post"], url_path="retry-failed")
    def retry_failed(self, request: Request, pk: str) -> Response:
        return self._do(services.retry_failed)

    def _do(self, service: Callable[[BatchJob], object]) -> Response:
        job = self.get_object()
        try:
            service(job)
        except services.JobConflict as error:
            raise Conflict(str(error)) from error
        job.refresh_from_db()
        return Response(self.get_serializer(job).data)


def _body(request: Request) -> dict[str, Any]:
    body = NewJobSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def _name(request: Request) -> str:
    return request.user.get_username() if request.user else "http"
