"""Listening: a track's file, in the pieces that a browser asks for. Only by the track's id, and only to staff."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.contrib import admin
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from embeddings.errors import LibraryUnavailable
from embeddings.library.fetching import heard
from embeddings.models import Track

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
MOST_BYTES = 2**20
"""In one answer: what a browser does not read yet must not keep a thread. It asks for the next piece by itself."""
BLOCK_BYTES = 2**16
TYPES = {
    ".aac": "audio/aac", ".aif": "audio/aiff", ".aiff": "audio/aiff", ".ape": "audio/x-ape", ".dsf": "audio/x-dsf",
    ".flac": "audio/flac", ".m4a": "audio/mp4", ".m4b": "audio/mp4", ".mp3": "audio/mpeg", ".mp4": "audio/mp4",
    ".mpc": "audio/x-musepack", ".oga": "audio/ogg", ".ogg": "audio/ogg", ".opus": "audio/ogg", ".wav": "audio/wav",
    ".webm": "audio/webm", ".wma": "audio/x-ms-wma", ".wv": "audio/x-wavpack",
}  # fmt: skip


@require_safe
@admin.site.admin_view
def audio(request: HttpRequest, track_id: str) -> HttpResponseBase:
    """Answer 206 with the piece that is asked for; 404 for what is not in the library, or not there now."""
    track = get_object_or_404(Track, pk=track_id, playable=True)
    try:
        file = heard(track)
        size = file.stat().st_size
        wanted = RANGE.fullmatch(request.headers.get("Range", "").strip())
        if wanted is None:
            return _answer(file, range(size))
        piece = _piece(wanted[1], wanted[2], size)
        if not piece:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
        answer = _answer(file, piece)
    except (OSError, LibraryUnavailable):
        raise Http404("the file cannot be read") from None
    answer.status_code = 206
    answer["Content-Range"] = f"bytes {piece.start}-{piece.stop - 1}/{size}"
    return answer


def _piece(first: str, last: str, size: int) -> range:
    """Return which bytes are sent of those that are asked for; of ``-500`` these are the last 500."""
    if not first:
        begin, end = max(0, size - int(last or 0)), size
    else:
        begin, end = int(first), min(int(last) + 1 if last else size, size)
    return range(begin, min(end, begin + MOST_BYTES))


def _answer(path: Path, piece: range) -> StreamingHttpResponse:
    file = path.open("rb")  # now, while an error can still be told
    answer = StreamingHttpResponse(_read(file, piece))
    answer["Content-Type"] = TYPES.get(path.suffix.lower(), "application/octet-stream")
    answer["Content-Length"] = str(len(piece))
    answer["Accept-Ranges"] = "bytes"
    answer["Cache-Control"] = "private, max-age=600"
    return answer


def _read(file: BinaryIO, piece: range) -> Iterator[bytes]:
    with file:
        file.seek(piece.start)
        for start in range(piece.start, piece.stop, BLOCK_BYTES):
            yield file.read(min(BLOCK_BYTES, piece.stop - start))
