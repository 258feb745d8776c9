"""The snapshot of Navidrome's database, for an instance on another machine."""

from __future__ import annotations

from typing import ClassVar

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from embeddings.library import open_library
from embeddings.library.snapshot import open_snapshot
from navembed_site.access.scopes import Scope

MEDIA_TYPE = "application/vnd.sqlite3"


class SnapshotRenderer(BaseRenderer):
    """Only says what is accepted: the file is streamed past it."""

    media_type = MEDIA_TYPE
    format = "db"


class SnapshotView(APIView):
    """What another instance needs of Navidrome's database."""

    scopes: ClassVar = {"get": Scope.OPERATE}
    renderer_classes = (SnapshotRenderer,)

    @extend_schema(
        operation_id="library_snapshot",
        responses={
            (200, MEDIA_TYPE): OpenApiResponse(
                OpenApiTypes.BINARY, examples=[OpenApiExample("A database", "SQLite format 3…", media_type=MEDIA_TYPE)]
            )
        },
    )
    def get(self, request: Request) -> FileResponse:
        """Download what navembed reads of Navidrome's database, as a SQLite database as of now.

        `library_snapshot --from` fetches it. It has tracks, their artists, the tracks of playlists, and which user may
        see which library; no passwords and no names of users.
        """
        return FileResponse(open_snapshot(open_library()), content_type=MEDIA_TYPE, filename="navidrome-snapshot.db")
