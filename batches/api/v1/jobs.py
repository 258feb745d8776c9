"""Jobs, and everything that one can do with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, ClassVar

from django.db import connection
from django.http import Http404
from django.urls import reverse
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches import services
from batches.api.v1.serializers import JobFilter, JobSerializer, NewJobSerializer, PreviewSerializer
from batches.events import Who
from batches.models import BatchJob, ModelProgress
from batches.requests import JobRequest
from batches.selectors.dry_run import preview
from navembed_site.access.scopes import Scope, caller_name
from navembed_site.http.etags import etag_of, not_modified, tagged
from navembed_site.http.filters import query
from navembed_site.http.idempotency import idempotency_key
from navembed_site.http.openapi import IDEMPOTENCY, IF_NONE_MATCH, NOT_MODIFIED
from navembed_site.http.pagination import NewestFirst, page_of
from navembed_site.http.problems import Conflict

STATE = [f"job__{field.attname}" for field in BatchJob._meta.concrete_fields]
STATE += [field.attname for field in ModelProgress._meta.concrete_fields]
MOST_SHOWN = 16


class JobViewSet(GenericViewSet[BatchJob]):
    """Jobs. A new one is queued when another is unfinished; every action is safe to repeat."""

    scopes: ClassVar = {"dry_run": Scope.READ}  # a question, though it has a body
    queryset = BatchJob.objects.prefetch_related("progress")
    serializer_class = JobSerializer
    pagination_class = NewestFirst
    lookup_value_regex = "[0-9]{1,18}"  # what a database can hold

    @extend_schema(parameters=[JobFilter])
    def list(self, request: Request) -> Response:
        """List jobs, the newest first."""
        return page_of(self, self.get_queryset().filter(**_conditions(query(JobFilter, request))))

    @extend_schema(
        request=NewJobSerializer, parameters=[IDEMPOTENCY], responses={200: JobSerializer, 201: JobSerializer}
    )
    def create(self, request: Request) -> Response:
        """Start a job, or queue it behind an unfinished one.

        With an `Idempotency-Key` that you have used before, the job of then is the answer, with 200.
        """
        return start(request, _body(request))

    @extend_schema(parameters=[IF_NONE_MATCH], responses={200: JobSerializer, 304: NOT_MODIFIED})
    def retrieve(self, request: Request, pk: str) -> Response:
        """Show a job with its counters, rates and the time that remains.

        Made for polling: send the `ETag` back as `If-None-Match`, and while nothing has changed the answer is 304.
        """
        state = _state(int(pk))
        if not state:
            raise Http404
        tag = etag_of(state)
        return not_modified(request, tag) or tagged(_shown(int(pk), tag), tag)

    @extend_schema(request=NewJobSerializer, responses=PreviewSerializer)
    @action(detail=False, methods=["post"], url_path="dry-run")
    def dry_run(self, request: Request) -> Response:
        """Say what a job with this body would do, and why. Nothing is started."""
        return Response(PreviewSerializer(preview(_body(request)).as_dict()).data)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Pause a running job after the device batch in hand."""
        return self._do(services.pause_job)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """Resumes a paused, cancelled or failed job where it was."""
        return self._do(services.resume_job)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Stop an unfinished job; what it has done is kept."""
        return self._do(services.cancel_job)

    @extend_schema(request=None)
    @action(detail=True, methods=["post"], url_path="retry-failed")
    def retry_failed(self, request: Request, pk: str) -> Response:
        """Try a finished job's failed tracks again."""
        return self._do(services.retry_failed)

    def _do(self, service: Callable[..., object]) -> Response:
        job = self.get_object()
        try:
            service(job, who=Who(caller_name(self.request), "api"))
        except services.JobConflict as error:
            raise Conflict(str(error)) from error
        return Response(self.get_serializer(self.get_object()).data)


@cache
def _state_query() -> str:
    """The SQL of what a job's representation depends on: putting it together would take longer than its answer."""
    rows = ModelProgress.objects.filter(job=0).order_by("pk").values_list(*STATE)
    return str(rows.query.sql_with_params()[0])


def _state(job: int) -> list[tuple[Any, ...]]:
    """Return the values as the database has them, to be compared; none without such a job."""
    with connection.cursor() as cursor:
        cursor.execute(_state_query(), [job])
        return list(cursor.fetchall())


@lru_cache(MOST_SHOWN)
def _shown(job: int, tag: str) -> dict[str, Any]:
    """Return the job's representation in the state that ``tag`` names, or a newer one."""
    return dict(JobSerializer(BatchJob.objects.prefetch_related("progress").get(pk=job)).data)


def start(request: Request, wanted: JobRequest) -> Response:
    """Start what is asked for, once for each key, and show the job. Raises Conflict."""
    key = idempotency_key(request)
    try:
        job, is_new = services.start_once(wanted, key, started_by=caller_name(request), via="api")
    except services.JobConflict as error:
        raise Conflict(str(error)) from error
    place = request.build_absolute_uri(reverse("job-detail", args=[job.pk]))
    code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
    return Response(JobSerializer(job).data, code, headers={"Location": place})


def _body(request: Request) -> JobRequest:
    body = NewJobSerializer(data=request.data)
    body.is_valid(raise_exception=True)
    return JobRequest(**body.validated_data)


def _conditions(wanted: dict[str, Any]) -> dict[str, Any]:
    lookups = {
        "status": "status__in", "started_by": "started_by",
        "created_after": "created_at__gte", "created_before": "created_at__lt",
    }  # fmt: skip
    return {lookups[name]: value for name, value in wanted.items() if value}
