"""Uploads a piece that the library has, in another format and under a bad name, as Navidrome's page does."""

from __future__ import annotations

import json
import socket
import tempfile
from pathlib import Path
from typing import Any

import soundfile
from django.conf import settings
from rich.console import Console

from embeddings.models import Track
from navembed_site.demo.encode import write_audio
from navembed_site.demo.language_model import LanguageModel
from navembed_site.demo.library import TWIN, DemoLibrary

NAME = f"07_{TWIN.lower().replace(' ', '_')}(official audio).ogg"
ANSWER_SECONDS = 300


def show_upload(library: DemoLibrary, console: Console) -> list[str]:
    """Show what an upload is answered with; returns problems."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload.ogg")
        samples, rate = soundfile.read(Track.objects.get(pk=library.twins[0]).path, dtype="float32", always_2d=True)
        write_audio(path, samples.T, rate)
        model = LanguageModel()
        with model.answering():
            wishes = {"similaritySearchEnabled": True, "renameEnabled": True, "openAiEndpoint": model.endpoint}
            request = {"music_file": str(path), "name": NAME, "settings": wishes}
            answer = ask(settings.NAVEMBED_HOME / "uploads.sock", request)
    shown = {key: value for key, value in answer.items() if key != "matches"}  # they are long
    console.print(f"{NAME} → {json.dumps(shown)}", markup=False, highlight=False, soft_wrap=True)
    wanted = {"status": "ok", "renamedFile": f"{TWIN}.ogg", "allDuplicates": True}
    return [
        f"the upload's {key} is {answer.get(key)} instead of {value}"
        for key, value in wanted.items()
        if answer.get(key) != value
    ]


def ask(path: Path | str, request: dict[str, Any]) -> dict[str, Any]:
    """Ask the upload socket at ``path`` as Navidrome's server does: one line of JSON, and one object back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_SECONDS)
        client.connect(str(path))
        client.sendall(json.dumps(request).encode() + b"\n")
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            return dict(json.load(answer))
