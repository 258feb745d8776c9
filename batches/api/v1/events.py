"""What happened to a job: who started, paused or cancelled it, what it waited for, what died."""

from __future__ import annotations

from typing import ClassVar

from drf_spectacular.utils import OpenApiExample, extend_schema_serializer
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches.events import text_of
from batches.models import BatchJob, JobEvent
from navembed_site.http.pagination import OnePage


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A share that was away",
            {
                "at": "2026-11-25T20:01:00Z",
                "until": "2026-11-25T20:04:10Z",
                "times": 1,
                "kind": "waiting",
                "by": "",
                "via": "",
                "detail": "the music folder /music is not mounted",
                "text": "Waited: the music folder /music is not mounted.",
            },
        )
    ]
)
class EventSerializer(serializers.ModelSerializer[JobEvent]):
    """Something that happened to a job."""

    text = serializers.SerializerMethodField(help_text="All of it as a sentence.")

    class Meta:
        model = JobEvent
        fields: ClassVar = ["at", "until", "times", "kind", "by", "via", "detail", "text"]
        read_only_fields = fields

    def get_text(self, event: JobEvent) -> str:
        return text_of(event)


class EventViewSet(GenericViewSet[JobEvent]):
    """What happened to a job, in the order of time; a few hundred entries at most."""

    serializer_class = EventSerializer
    pagination_class = OnePage
    queryset = JobEvent.objects.all()

    def list(self, request: Request, job_id: int) -> Response:
        """List what happened to a job."""
        job = get_object_or_404(BatchJob.objects.only("pk"), pk=job_id)
        found = self.get_serializer(self.get_queryset().filter(job=job), many=True).data
        return self.get_paginated_response(found)
