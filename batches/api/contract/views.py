"""What the Go server and the panel speak; each view parses, calls one service and renders."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import api_view, authentication_classes, permission_classes
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from batches import services
from batches.api.contract.bodies import (
    AlreadyRunningSerializer,
    CancellingSerializer,
    ContractProgressSerializer,
    HealthSerializer,
    StartedSerializer,
    StartSerializer,
    UnhealthySerializer,
)
from batches.events import Who
from batches.requests import JobRequest
from batches.selectors.last_known import LastKnown
from navembed_site.database.health import watch
from navembed_site.http.openapi import ContractErrorSerializer
from navembed_site.http.problems import sentence


class BatchViewSet(ViewSet):
    """Start, follow and cancel the batch job."""

    contract = True
    last_known = LastKnown(settings.NAVEMBED_HOME / "progress.json")

    @extend_schema(
        request=StartSerializer,
        responses={200: StartedSerializer, 400: AlreadyRunningSerializer, 422: ContractErrorSerializer},
    )
    def start(self, request: Request) -> Response:
        """Start a job, or join the unfinished one that does the same.

        It is never queued: while one that does something else is unfinished, the answer is 400.
        """
        body = StartSerializer(data=request.data)
        if not body.is_valid():
            return Response({"error": sentence(body.errors)}, status.HTTP_422_UNPROCESSABLE_ENTITY)
        wanted = JobRequest(body.validated_data["models"] or (), clear_existing=body.validated_data["clearExisting"])
        try:
            job = services.start_or_join(wanted, started_by="Navidrome", via="navidrome")
        except services.JobConflict as error:
            running = error.job.pk if error.job else None
            return Response({"error": str(error), "job_id": running}, status.HTTP_400_BAD_REQUEST)
        self.last_known.forget()
        self.last_known.progress()  # should the database go away before the first poll
        return Response({"status": "started", "job_id": job.pk})

    @extend_schema(responses=ContractProgressSerializer)
    def progress(self, request: Request) -> Response:
        """The open job, else the newest. The panel gives up at the first failed poll, so none may fail."""
        return Response(self.last_known.progress())

    @extend_schema(request=None, responses={200: CancellingSerializer, 404: ContractErrorSerializer})
    def cancel(self, request: Request) -> Response:
        """Cancel the unfinished job and all that are queued behind it."""
        try:
            job = services.cancel_all(who=Who(via="navidrome"))
        except services.JobConflict as error:
            return Response({"error": str(error)}, status.HTTP_404_NOT_FOUND)
        self.last_known.forget()
        return Response({"status": "cancelling", "job_id": job.pk})


@extend_schema(responses={200: HealthSerializer, 503: UnhealthySerializer}, tags=["contract"], auth=[])
@api_view(["GET", "HEAD"])
@authentication_classes([])
@permission_classes([])
def healthz(request: Request) -> Response:
    """Whether the web server answers and its database can be used; touches nothing, since somebody else looks."""
    if trouble := watch.trouble():
        return Response({"status": "error", "database": trouble.what}, status.HTTP_503_SERVICE_UNAVAILABLE)
    return Response({"status": "ok"})
