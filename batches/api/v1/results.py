"""What became of each track of a job, in pages or as a table for a spreadsheet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.generics import get_object_or_404
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from batches.models import BatchJob, TrackResult
from embeddings.api.v1.serializers import TrackNameSerializer
from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.http.filters import query
from navembed_site.http.pagination import Pages, page_of

SLICE = 1000  # rows in memory; far more than a track has models
FORMULA = (*"=+-@＝＋－＠", "\t", "\r", "\n")  # full-width, too: what a spreadsheet would run, or skip and then run
COLUMNS = (
    "track", "title", "artist", "album", "path", "model", "status", "reason", "recognised", "attempts",
    "error_class", "error_message", "note", "seconds", "precision", "audio_seconds", "finished_at",
)  # fmt: skip

CSV = OpenApiExample("A damaged file", f"{','.join(COLUMNS)}\r\n0a1b2c,Gymnopédie No. 1,…\r\n", media_type="text/csv")


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A damaged file",
            {
                "track": {
                    "id": "0a1b2c",
                    "title": "Gymnopédie No. 1",
                    "artist": "Erik Satie",
                    "album": "Gymnopédies",
                    "path": "/music/Satie/01.mp3",
                },
                "model": "muq",
                "status": "failed",
                "reason": "new",
                "recognised": False,
                "attempts": 1,
                "error_class": "AudioError",
                "error_message": "no audio could be decoded",
                "note": "",
                "seconds": None,
                "precision": "",
                "audio_seconds": None,
                "finished_at": "2026-11-25T20:01:00Z",
            },
        )
    ]
)
class ResultSerializer(serializers.ModelSerializer[TrackResult]):
    """One track × model of a job. ``seconds`` are of work on the device, in which it computed with ``precision``."""

    track = TrackNameSerializer(read_only=True)

    class Meta:
        model = TrackResult
        fields = [
            "track", "model", "status", "reason", "recognised", "attempts", "error_class", "error_message",
            "note", "seconds", "precision", "audio_seconds", "finished_at",
        ]  # fmt: skip
        read_only_fields = fields


class ResultFilter(serializers.Serializer[dict[str, Any]]):
    """Query of a job's results."""

    status = serializers.ChoiceField(choices=TrackResult.Status.choices, required=False)
    model = serializers.ChoiceField(choices=MODEL_KEYS, required=False)
    error_class = serializers.CharField(required=False, max_length=64, help_text="As in `error_class` of a result.")


class InTheirOrder(Pages):
    ordering = ("track_id", "model")  # the unique index's: nothing is sorted


class CsvRenderer(BaseRenderer):
    """Only says what is accepted: the table is streamed past it."""

    media_type = "text/csv"
    format = "csv"
    charset = "utf-8"


class ResultViewSet(GenericViewSet[TrackResult]):
    """What became of each track of a job, by model."""

    serializer_class = ResultSerializer
    pagination_class = InTheirOrder
    queryset = TrackResult.objects.select_related("track").defer("traceback")

    @extend_schema(parameters=[ResultFilter])
    def list(self, request: Request, job_id: int) -> Response:
        """List what became of a job's tracks, by track and model."""
        return page_of(self, self._results(request, job_id))

    @extend_schema(
        operation_id="batches_results_table",
        parameters=[ResultFilter],
        responses={(200, "text/csv"): OpenApiResponse(str, examples=[CSV])},
    )
    def export(self, request: Request, job_id: int) -> HttpResponseBase:
        """Download a job's results as CSV, however many there are.

        A text that a spreadsheet would take for a formula begins with an apostrophe.
        """
        rows = _whole(self._results(request, job_id))
        reply = StreamingHttpResponse(_lines(rows), content_type="text/csv; charset=utf-8")
        reply["Content-Disposition"] = f'attachment; filename="job-{job_id}-results.csv"'
        return reply

    def _results(self, request: Request, job_id: int) -> QuerySet[TrackResult]:
        conditions = query(ResultFilter, request)
        job = get_object_or_404(BatchJob.objects.only("pk"), pk=job_id)
        return self.get_queryset().filter(job=job, **conditions)


def _whole(results: QuerySet[TrackResult]) -> Iterator[TrackResult]:
    """Yield all of them, in slices of their own: a slow reader must not keep a transaction open."""
    last = ""
    ordered = results.order_by("track_id", "model")
    while rows := list(ordered.filter(track_id__gt=last)[:SLICE]):
        if len(rows) == SLICE:  # the last track may have more
            rows = [row for row in rows if row.track_id != rows[-1].track_id]
        yield from rows
        last = rows[-1].track_id


def _lines(rows: Iterable[TrackResult]) -> Iterator[str]:
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    for row in rows:
        yield writer.writerow(_cell(value) for value in _values(row))


def _values(row: TrackResult) -> tuple[object, ...]:
    track = row.track
    return (
        track.pk, track.title, track.artist, track.album, track.path, row.model, row.status, row.reason,
        row.recognised, row.attempts, row.error_class, row.error_message, row.note, row.seconds,
        row.precision, row.audio_seconds, row.finished_at and row.finished_at.isoformat(),
    )  # fmt: skip


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


class _Echo:
    """A file that gives back what is written."""

    def write(self, line: str) -> str:
        return line
