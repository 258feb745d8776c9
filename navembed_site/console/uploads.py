"""Uploads: what came in, and what was answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest

from embeddings.models import Upload
from navembed_site.console.pages import page

UPLOADS_SHOWN = 50


@dataclass(frozen=True)
class UploadLook:
    """An upload, and its answer in words."""

    upload: Upload

    @property
    def text(self) -> str:
        given = self.upload.answer
        if not self.upload.accepted:
            return str(given.get("message", "It was refused."))
        pieces, duplicates = given.get("splitFiles", []), given.get("duplicates", [])
        parts = [f"named {given['renamedFile']}"] if given.get("renamedFile") else []
        parts += [f"split into {len(pieces):,} tracks"] if pieces else []
        if duplicates:
            parts.append(f"the library has {f'{len(duplicates):,} of them' if pieces else 'it'} already")
        return "; ".join(parts) or "Taken as it is"

    @property
    def matches(self) -> list[dict[str, Any]]:
        """What it was found to be like, confirmed or not."""
        found: list[dict[str, Any]] = self.upload.answer.get("matches", [])
        return found

    @property
    def warning(self) -> str:
        return str(self.upload.answer.get("warning", ""))


@page("console/uploads.html")
def uploads(request: HttpRequest) -> dict[str, Any]:
    shown = Paginator(Upload.objects.order_by("-received_at", "-pk"), UPLOADS_SHOWN).get_page(request.GET.get("page"))
    return {"title": "Uploads", "page": shown, "uploads": [UploadLook(upload) for upload in shown]}
