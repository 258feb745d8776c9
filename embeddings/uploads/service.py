"""What becomes of an upload, from whatever way it comes; the one place where an answer is made."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from embeddings.audio.files import look_at
from embeddings.audio.pool import DecodePool
from embeddings.audio.split import Cut
from embeddings.audio.summary import Limits
from embeddings.errors import AudioError, AudioFileMissing, BadUpload, FileUnreachable
from embeddings.models import Upload
from embeddings.uploads.cue import BadSheet
from embeddings.uploads.duplicates import Match, accept, matches
from embeddings.uploads.embedding import Embedded, embed
from embeddings.uploads.names import let_go
from embeddings.uploads.patience import Patience
from embeddings.uploads.rename import NotRenamed, new_name
from embeddings.uploads.request import Request
from embeddings.uploads.splitting import Split, plan, split
from navembed_site.errors import NavembedError

logger = logging.getLogger(__name__)

DECODERS = 2
STOPPED = "navembed is being stopped; send the file again"
Answer = dict[str, Any]


class Uploads:
    """Answers uploads, several at a time. ``is_stopping`` ends all waiting: what is not embedded yet is accepted.

    What may have to be split is refused then.
    """

    def __init__(self, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping
        self._decoders = DecodePool(DECODERS, limits=Limits(settings.MIN_DECODED, settings.MAX_HOURS))

    def close(self) -> None:
        self._decoders.close()

    def answer(
        self, request: Request, is_unwanted: Callable[[], bool] = lambda: False, *, most_seconds: float = math.inf
    ) -> Answer:
        """Return the answer to a request, whatever it holds.

        ``is_unwanted``: the caller has gone. ``most_seconds``: that they wait, if less than the settings allow.
        """
        began = time.monotonic()
        seconds = min(settings.UPLOAD_WAIT_SECONDS, most_seconds)
        patience = Patience(seconds, lambda: self._is_stopping() or is_unwanted())
        try:
            answer = self._process(request, patience)
        except NavembedError as error:
            answer = refusal(str(error))
        except Exception as error:
            logger.exception("%s could not be processed", request.name)
            answer = refusal(f"navembed failed with {type(error).__name__}: {error}")
        let_go(request)
        _record(request, answer, time.monotonic() - began)
        return answer

    def foreseen(self, request: Request) -> Answer:
        """Return what the file would be split into; nothing is written, embedded or compared."""
        try:
            self._hash(request.music_file, request.name)
            return {"status": "ok", "splitFiles": [track.as_answer() for track, _ in self._plan(request)]}
        except NavembedError as error:
            return refusal(str(error))
        finally:
            let_go(request)

    def _plan(self, request: Request) -> list[tuple[Split, Cut]]:
        look_at(str(request.music_file))
        return plan(request, self._decoders)

    def _process(self, request: Request, patience: Patience) -> Answer:
        warnings: list[str] = []
        splits = self._split(request, patience, warnings)
        wanted: list[str] = []
        try:
            answer = self._judged(request, splits, patience, warnings)
            wanted = [each["path"] for each in answer.get("splitFiles", ())]
            return answer
        finally:
            for each in splits:
                if str(each.path) not in wanted:
                    with suppress(OSError):
                        each.path.unlink()

    def _judged(self, request: Request, splits: list[Split], patience: Patience, warnings: list[str]) -> Answer:
        pieces = {each.name: each.path for each in splits} or {request.name: request.music_file}
        sound = request.wishes.find_duplicates
        heard = {name: self._embed(path, name, patience, sound) for name, path in pieces.items()}
        warnings += _later({name: each.problems for name, each in heard.items()})
        found = [
            match for name in pieces for match in self._matches(pieces[name], name, heard[name], request, warnings)
        ]
        duplicates = list(dict.fromkeys(match.file for match in found if match.confirmed))
        answer: Answer = {
            "status": "ok",
            "duplicates": duplicates,
            "renamedFile": "" if splits or not request.wishes.rename else self._new_name(request, patience, warnings),
            "allDuplicates": len(duplicates) == len(pieces),
        }
        if splits:
            answer["splitFiles"] = [each.as_answer() for each in splits if each.name not in duplicates]
        if found:
            answer["matches"] = [match.as_answer() for match in found]
        if warnings:
            answer["warning"] = "; ".join(dict.fromkeys(warnings))
        return answer

    def _matches(self, path: Path, name: str, heard: Embedded, request: Request, warnings: list[str]) -> list[Match]:
        """Return what is like a piece, if that is wished; that it cannot be compared now is no reason to refuse it."""
        if not heard.audio_hash:
            return []
        try:
            if not request.wishes.find_duplicates:
                accept(name, heard.audio_hash, heard.fingerprints)
                return []
            return matches(
                path,
                name,
                heard.audio_hash,
                heard.fingerprints,
                threshold=request.wishes.threshold,
                decoders=self._decoders,
            )
        except (NavembedError, DatabaseError, InterfaceError) as error:
            warnings.append(f"{name} was not compared with the library: {error}")
            return []

    def _new_name(self, request: Request, patience: Patience, warnings: list[str]) -> str:
        """Return what the file is to be called; empty when it keeps its name, which no failure changes."""
        try:
            tags = self._decoders.tags(str(request.music_file)) if request.wishes.use_metadata else {}
            texts = {field: value for field, value in tags.items() if isinstance(value, str) and field != "sheet"}
        except AudioError:
            texts = {}
        try:
            return new_name(request, texts, patience.is_unwanted)
        except NotRenamed as error:
            warnings.append(f"{request.name} keeps its name: {error}")
            return ""

    def _split(self, request: Request, patience: Patience, warnings: list[str]) -> list[Split]:
        """Return the tracks that the file was split into; none when it is to be taken whole."""
        try:
            if planned := self._plan(request):
                return split(request, planned, self._decoders, patience.is_unwanted)
        except BadSheet as error:
            warnings.append(f"{error}; it was taken whole")
        except AudioError:
            pass  # who embeds it says why
        if self._is_stopping():
            raise NavembedError(STOPPED)  # perhaps an album that was not split because of that
        return []

    def _embed(self, path: Path, name: str, patience: Patience, sound: bool) -> Embedded:
        try:
            audio_hash = self._hash(path, name, patience.is_unwanted)
        except AudioError as error:
            return Embedded(problems=[str(error)])
        return embed(path, name, audio_hash, patience, sound=sound)

    def _hash(self, path: Path, name: str, should_stop: Callable[[], bool] = lambda: False) -> str:
        """Return the hash of a file's audio. Raises BadUpload, passing AudioError."""
        try:
            look_at(str(path))
            return self._decoders.audio_hash(str(path), should_stop=should_stop)
        except (AudioFileMissing, FileUnreachable) as error:
            raise BadUpload(f"{name} cannot be read: {error}") from error
        except AudioError as error:
            if error.permanent:
                raise BadUpload(f"{name} is not music that can be read: {error}") from error
            raise


@cache
def in_this_process() -> Uploads:
    """Return those of a process that answers HTTP."""
    return Uploads()


def refusal(message: str) -> Answer:
    return {"status": "error", "message": message}


def _later(problems: dict[str, list[str]]) -> Iterator[str]:
    """Yield a sentence for each reason, however many tracks it concerns."""
    names: dict[str, list[str]] = {}
    for name, reasons in problems.items():
        for reason in reasons:
            names.setdefault(reason, []).append(name)
    for reason, concerned in names.items():
        more = f" and {len(concerned) - 1} more were" if len(concerned) > 1 else " was"
        yield f"{concerned[0]}{more} not embedded ({reason}); the next job will try"


def _record(request: Request, answer: Answer, seconds: float) -> None:
    accepted = answer["status"] == "ok"
    logger.info("%s: %s in %.1f s", request.name, answer.get("message") or answer.get("warning") or "ok", seconds)
    try:
        Upload.objects.create(name=request.name, seconds=seconds, accepted=accepted, answer=answer)
    except Exception as error:  # whatever it is, the answer goes out
        logger.warning("%s could not be listed: %s: %s", request.name, type(error).__name__, error)
