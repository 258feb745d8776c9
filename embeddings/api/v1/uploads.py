"""Uploads over HTTP, for everybody but Navidrome's server."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any, ClassVar

from django.conf import settings
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.http import FileResponse, Http404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.parsers import MultiPartParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.views import APIView

from embeddings.uploads import folder
from embeddings.uploads.request import Request as UploadRequest
from embeddings.uploads.request import base_name, wishes
from embeddings.uploads.service import Answer, in_this_process
from navembed_site.access.scopes import Scope
from navembed_site.http.problems import Unprocessable

SECONDS = 120.0  # that an upload waits here for an embedder; a thread waits with it
FLAC = "audio/flac"


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A file", {"file": "…", "name": "song.flac"}, media_type="multipart/form-data", request_only=True
        )
    ]
)
class UploadSerializer(serializers.Serializer[dict[str, Any]]):
    """A file, how it is called, its CUE sheet, and what is wished for."""

    file = serializers.FileField(help_text="Music in any format that Navidrome plays.")
    name = serializers.CharField(required=False, allow_blank=True, max_length=1000, help_text="What it is called.")
    cue = serializers.FileField(required=False, help_text="A CUE sheet by which it is split into tracks.")
    settings = serializers.JSONField(
        required=False,
        help_text="An object with renameEnabled, renamingPrompt, openAiEndpoint, openAiModel, useMetadata, "
        "similaritySearchEnabled, dedupThreshold, reasoningLevel.",
    )

    def validate_settings(self, value: Any) -> Any:
        if isinstance(value, str):  # a form has texts only
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise serializers.ValidationError("is not JSON") from error
        if not isinstance(value, dict):
            raise serializers.ValidationError("is not a JSON object")
        return value


class SplitFileSerializer(serializers.Serializer[dict[str, Any]]):
    url = serializers.CharField(help_text="Where the track can be fetched for a day.")
    destName = serializers.CharField()
    title = serializers.CharField()
    artist = serializers.CharField(allow_null=True)
    album = serializers.CharField(allow_null=True)
    albumArtist = serializers.CharField(allow_null=True)
    index = serializers.IntegerField()
    durationSeconds = serializers.FloatField()


class MatchSerializer(serializers.Serializer[dict[str, Any]]):
    file = serializers.CharField()
    similarity = serializers.FloatField()
    confirmed = serializers.BooleanField(help_text="It is the same recording; else it only sounds like it.")
    track_id = serializers.CharField()
    title = serializers.CharField()
    artist = serializers.CharField()
    path = serializers.CharField()
    upload = serializers.CharField()


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Accepted",
            {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False},
            response_only=True,
        )
    ]
)
class UploadAnswerSerializer(serializers.Serializer[dict[str, Any]]):
    """What became of an upload."""

    status = serializers.CharField(help_text="`ok`; a file that is refused is answered with 422.")
    duplicates = serializers.ListField(child=serializers.CharField())
    renamedFile = serializers.CharField(allow_blank=True, help_text="Empty: it keeps its name.")
    allDuplicates = serializers.BooleanField()
    splitFiles = SplitFileSerializer(many=True, required=False)
    matches = MatchSerializer(many=True, required=False)
    warning = serializers.CharField(required=False)


class UploadView(APIView):
    """Files before they are in the library."""

    body_limit = settings.AUDIO_BODY_BYTES
    costs_device_time = True
    scopes: ClassVar = {"post": Scope.OPERATE}
    parser_classes = [MultiPartParser]

    @extend_schema(request={"multipart/form-data": UploadSerializer}, responses=UploadAnswerSerializer)
    def post(self, request: Request) -> Response:
        """Upload a file: it is embedded, compared and split as one that comes from Navidrome's page.

        It is not copied into the library. The tracks of a CUE sheet can be fetched for a day.
        """
        body = UploadSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        place, answer = folder.make(), Answer()
        try:
            answer = in_this_process().answer(_stored(body.validated_data, place), most_seconds=SECONDS)
        finally:
            folder.tidy(place, answer)
        if answer["status"] != "ok":
            raise Unprocessable(answer["message"])
        return Response(_with_addresses(answer, place, request))


class FlacRenderer(BaseRenderer):
    """Only says what is accepted: the file is streamed past it."""

    media_type = FLAC
    format = "flac"


class UploadTrackView(APIView):
    """A track that was split from an upload."""

    scopes: ClassVar = {"get": Scope.OPERATE}
    renderer_classes = (FlacRenderer,)

    @extend_schema(
        operation_id="upload_track",
        responses={
            (200, FLAC): OpenApiResponse(
                OpenApiTypes.BINARY, examples=[OpenApiExample("A track", "fLaC…", media_type=FLAC)]
            )
        },
    )
    def get(self, request: Request, upload_id: uuid.UUID, number: int) -> FileResponse:
        """Fetch a track, within a day."""
        path = folder.track(upload_id, number)
        if path is None:
            raise Http404("there is no such track, or it has been deleted after a day")
        return FileResponse(path.open("rb"), content_type=FLAC, filename=path.name)


def _stored(given: dict[str, Any], place: Path) -> UploadRequest:
    """Give the files to the upload's folder, under names of ours."""
    name = base_name(given.get("name") or "") or base_name(given["file"].name) or "upload"
    cue = given.get("cue")
    return UploadRequest(
        _linked(given["file"], place / folder.MUSIC),
        name,
        _linked(cue, place / folder.SHEET) if cue else None,
        wishes(given),
    )


def _linked(file: TemporaryUploadedFile, path: Path) -> Path:
    os.link(file.temporary_file_path(), path)
    return path


def _with_addresses(answer: Answer, place: Path, request: Request) -> Answer:
    """Put addresses in place of the tracks' paths."""
    for number, each in enumerate(answer.get("splitFiles", ()), 1):
        Path(each.pop("path")).rename(place / folder.track_name(number))
        where = {"upload_id": uuid.UUID(place.name), "number": number}
        each["url"] = reverse("upload-track", kwargs=where, request=request)
    return answer
