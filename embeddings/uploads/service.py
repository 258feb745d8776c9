"""What becomes of an upload, from whatever way it comes; the one place where an answer is made."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from embeddings.audio.files import look_at
from embeddings.audio.pool import DecodePool
from embeddings.audio.summary import Limits
from embeddings.errors import AudioError, AudioFileMissing, BadUpload, DecoderDied, FileUnreachable
from embeddings.models import Upload
from embeddings.uploads.embedding import Embedded, embed
from embeddings.uploads.patience import Patience
from embeddings.uploads.request import Request
from navembed_site.errors import NavembedError

logger = logging.getLogger(__name__)

DECODERS = 2
Answer = dict[str, Any]


class Uploads:
    """Answers uploads, several at a time. ``is_stopping`` ends all waiting: what is not embedded yet is accepted."""

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping
        self._decoders = DecodePool(DECODERS, limits=Limits(settings.MIN_DECODED, settings.MAX_HOURS))

    def close(self) -> None:
        self._decoders.close()

    def answer(self, request: Request, is_unwanted: Callable[[], bool] = lambda: False) -> Answer:
        """Return the answer to a request, whatever it holds. ``is_unwanted``: whoever asked has gone."""
        began = time.monotonic()
        patience = Patience(settings.UPLOAD_WAIT_SECONDS, lambda: self._is_stopping() or is_unwanted())
        try:
            answer = self._process(request, patience)
        except NavembedError as error:
            answer = refusal(str(error))
        except Exception as error:
            logger.exception("%s could not be processed", request.name)
            answer = refusal(f"navembed failed with {type(error).__name__}: {error}")
        _record(request, answer, time.monotonic() - began)
        return answer

    def _process(self, request: Request, patience: Patience) -> Answer:
        warnings: list[str] = []
        self._embed(request.music_file, request.name, patience, warnings)
        answer: Answer = {"status": "ok", "duplicates": [], "renamedFile": "", "allDuplicates": False}
        if warnings:
            answer["warning"] = "; ".join(dict.fromkeys(warnings))
        return answer

    def _embed(self, path: Path, name: str, patience: Patience, warnings: list[str]) -> Embedded:
        try:
            look_at(str(path))
            audio_hash = self._decoders.audio_hash(str(path), should_stop=patience.is_unwanted)
        except (AudioFileMissing, FileUnreachable) as error:
            raise BadUpload(f"{name} cannot be read: {error}") from error
        except DecoderDied as error:
            warnings.append(_later(name, str(error)))
            return Embedded()
        except AudioError as error:
            if not error.permanent:
                warnings.append(_later(name, str(error)))
                return Embedded()
            raise BadUpload(f"{name} is not music that can be read: {error}") from error
        embedded = embed(path, name, audio_hash, patience)
        warnings += [_later(name, problem) for problem in embedded.problems]
        return embedded


def refusal(message: str) -> Answer:
    return {"status": "error", "message": message}


def _later(name: str, reason: str) -> str:
    return f"{name} was not embedded ({reason}); the next job will try"


def _record(request: Request, answer: Answer, seconds: float) -> None:
    accepted = answer["status"] == "ok"
    logger.info("%s: %s in %.1f s", request.name, answer.get("message") or answer.get("warning") or "ok", seconds)
    try:
        Upload.objects.create(name=request.name, seconds=seconds, accepted=accepted, answer=answer)
    except DatabaseError as error:
        logger.warning("%s could not be listed: %s", request.name, error)
