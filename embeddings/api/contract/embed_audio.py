"""Uploads as later versions of Navidrome's fork send them: JSON, with the file in base64."""

from __future__ import annotations

import base64
import binascii
import re
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar

from django.conf import settings
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from embeddings.errors import BadUpload
from embeddings.uploads import folder
from embeddings.uploads.request import Request as UploadRequest
from embeddings.uploads.request import parse
from embeddings.uploads.service import Answer, in_this_process
from navembed_site.access.scopes import Scope
from navembed_site.http.problems import Unprocessable

CHUNK = 2**20
MOST_BESIDE = 2**20  # bytes of a body beside the files
FILES = {"music_data_b64": folder.MUSIC, "cue_data_b64": folder.SHEET}
"""Fields that hold files, and what these are called in the upload's folder."""
_BEGINS = re.compile(rb'"(music_data_b64|cue_data_b64)"\s*:\s*"')


class FilesInJson(BaseParser):
    """JSON whose fields of base64 become files as they come: they may be larger than memory should be."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        place = folder.make()
        try:
            return {"line": _without_files(partial(stream.read, CHUNK), place), "place": place}
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise


def _without_files(read: Callable[[], bytes], place: Path) -> bytes:
    """Return the body with empty texts in place of the files, which are written into ``place``. Raises ParseError."""
    found, rest = b"", b""
    while True:
        chunk = read()
        rest += chunk
        if begins := _BEGINS.search(rest):
            found += rest[: begins.end()]
            rest = _decoded(rest[begins.end() :], read, place / FILES[begins[1].decode()])
        elif not chunk:
            return found + rest
        if len(found) + len(rest) > MOST_BESIDE + 2 * CHUNK:
            raise ParseError("the body is too long beside its files")


def _decoded(rest: bytes, read: Callable[[], bytes], path: Path) -> bytes:
    """Write what base64 holds up to the quote, which begins what is returned. Raises ParseError."""
    with path.open("wb") as file:
        while True:
            data, quote, after = rest.partition(b'"')
            whole = len(data) if quote else len(data) - len(data) % 4
            try:
                file.write(base64.b64decode(data[:whole], validate=True))
            except binascii.Error as error:
                raise ParseError(f"{path.name} is not base64") from error
            if quote:
                return quote + after
            chunk = read()
            if not chunk:
                raise ParseError("the body ends within a file")
            rest = data[whole:] + chunk


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A file",
            {"name": "song.flac", "music_file": "/uploads/song.flac", "music_data_b64": "ZkxhQw=="},
            request_only=True,
        )
    ]
)
class EmbedAudioSerializer(serializers.Serializer[dict[str, Any]]):
    """An upload; the paths are those of Navidrome's server, and are not opened."""

    music_file = serializers.CharField()
    name = serializers.CharField(required=False, allow_blank=True)
    cue_file = serializers.CharField(required=False, allow_blank=True)
    music_data_b64 = serializers.CharField()
    cue_data_b64 = serializers.CharField(required=False)
    settings = serializers.DictField(required=False)


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "Accepted",
            {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False},
            response_only=True,
        )
    ]
)
class EmbedAudioAnswerSerializer(serializers.Serializer[dict[str, Any]]):
    """The answer of the socket."""

    status = serializers.CharField()
    duplicates = serializers.ListField(child=serializers.CharField())
    renamedFile = serializers.CharField(allow_blank=True)
    allDuplicates = serializers.BooleanField()
    splitFiles = serializers.ListField(child=serializers.DictField(), required=False)
    warning = serializers.CharField(required=False)


class EmbedAudioView(APIView):
    """What the socket does, for Navidrome servers that speak HTTP instead."""

    contract = True
    body_limit = settings.AUDIO_BODY_BYTES * 4 // 3 + MOST_BESIDE
    costs_device_time = True
    scopes: ClassVar[Mapping[str, Scope]] = {"post": Scope.OPERATE}
    parser_classes = [FilesInJson]

    @extend_schema(request=EmbedAudioSerializer, responses=EmbedAudioAnswerSerializer)
    def post(self, request: Request) -> Response:
        """Embed a file before it is in the library. Its tracks, if it is split, are kept for a day."""
        given: Any = request.data
        if not given:
            raise Unprocessable("the request is empty")
        place, answer = given["place"], Answer()
        try:
            answer = in_this_process().answer(_request(given["line"], place))
        except BadUpload as error:
            raise Unprocessable(str(error)) from error
        finally:
            folder.tidy(place, answer)
        if answer["status"] != "ok":
            raise Unprocessable(answer["message"])
        return Response(answer)


def _request(line: bytes, place: Path) -> UploadRequest:
    """Return what is asked; files that came along take the place of paths. Raises BadUpload."""
    asked = parse(line)
    music, sheet = place / folder.MUSIC, place / folder.SHEET
    if not music.exists():
        raise BadUpload("the request has no music_data_b64")
    return UploadRequest(music, asked.name, sheet if sheet.exists() else None, asked.wishes)
