"""A decoder in a process of its own, so that a file that crashes or hangs FFmpeg costs one process and no job.

``python -m embeddings.audio.decoder_process MEMORY_FD PARENT_PID`` reads requests, one JSON object a line, from stdin
and answers on stdout: ``alive`` now and then while it makes progress, ``block`` with the shapes of the float32 arrays
that lie one after the other in the memory file, and at the end ``summary``, ``hash``, ``tags``, ``split``, ``error`` or
``stopped``. After
a block it waits for ``next`` (the memory may be overwritten) or ``stop``. The end of stdin ends it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEARTBEAT_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class _Stopped(Exception):
    """The parent does not want the rest."""


def main() -> None:
    memory, parent = int(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; our parent decides
    die_with(parent)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not end up among the answers
    _Server(memory, answers).serve()


def die_with(parent: int) -> None:
    """Asks the kernel to kill us with the thread that started us: stdin is only looked at between packets."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


class _Server:
    def __init__(self, memory: int, answers: int) -> None:
        self._libraries = 0
        self._memory = memory
        self._answers = answers
        self._last_answer = 0.0

    def serve(self) -> None:
        from embeddings.audio import decode  # noqa: F401  (slow: before we say that we are ready)

        self._libraries = _mapped_bytes()
        self._answer({"ready": True})
        handlers: dict[str, Handler] = {
            "decode": self._decode, "hash": self._hash, "tags": self._tags, "split": self._split,
        }  # fmt: skip
        while True:
            request = self._request()
            handler = handlers.get(request["do"])
            if handler is not None:  # a "stop" may arrive just after the end
                answer = self._run(handler, request)
                os.ftruncate(self._memory, 0)
                self._answer(answer)

    def _run(self, handler: Handler, request: dict[str, Any]) -> dict[str, Any]:
        from embeddings.audio.summary import Limits
        from embeddings.errors import AudioError

        try:
            self._limit_memory(Limits(**request["limits"]).gigabytes)
            return handler(request)
        except _Stopped:
            return {"stopped": True}
        except AudioError as error:
            return {"error": type(error).__name__, "message": str(error), "permanent": error.permanent}
        except MemoryError:
            limit = Limits(**request["limits"]).gigabytes
            message = f"needs more than {limit:g} GB of memory to be decoded: it is damaged, or made to do harm"
            return {"error": "AudioError", "message": message, "permanent": True}
        except Exception as error:
            traceback.print_exc()
            message = f"the decoder failed: {type(error).__name__}: {error}"
            return {"error": "AudioError", "message": message, "permanent": False}

    def _limit_memory(self, gigabytes: float) -> None:
        """Limits memory to that, beside what the libraries have mapped."""
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = self._libraries + int(gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))

    def _decode(self, request: dict[str, Any]) -> dict[str, Any]:
        from embeddings.audio.decode import AudioSummary, decode
        from embeddings.audio.summary import Limits
        from embeddings.encoders.base import AudioFormat

        formats = [AudioFormat(*wanted) for wanted in request["formats"]]
        options = {"sound": request["sound"], "block_seconds": request["block_seconds"]}
        limits = Limits(**request["limits"])
        for part in decode(request["path"], formats, **options, limits=limits, progress=self._progress):
            if isinstance(part, AudioSummary):
                return {"summary": asdict(part)}
            offset = 0
            for waveform in part.values():
                offset = self._write(waveform, offset)
            self._answer({"block": [[*wanted, part[wanted].shape[1]] for wanted in part]})
            if self._request()["do"] == "stop":
                raise _Stopped
        raise AssertionError("decode ends with a summary")

    def _hash(self, request: dict[str, Any]) -> dict[str, Any]:
        from embeddings.audio.decode import audio_hash

        return {"hash": audio_hash(request["path"], progress=self._progress)}

    def _tags(self, request: dict[str, Any]) -> dict[str, Any]:
        from embeddings.audio import tags
        from embeddings.errors import AudioError

        try:
            return {"tags": tags.read(request["path"])}
        except Exception as error:  # a damaged file makes mutagen raise almost anything
            raise AudioError(f"its tags cannot be read: {type(error).__name__}: {error}") from error

    def _split(self, request: dict[str, Any]) -> dict[str, Any]:
        from embeddings.audio.split import Cut, split
        from embeddings.audio.summary import Limits

        cuts = [Cut(**each) for each in request["cuts"]]
        return {"split": split(request["path"], cuts, limits=Limits(**request["limits"]), progress=self._progress)}

    def _write(self, waveform: NDArray[np.float32], offset: int) -> int:
        rest = waveform.reshape(-1).view("uint8").data
        while len(rest):
            written = os.pwrite(self._memory, rest, offset)
            rest, offset = rest[written:], offset + written
        return offset

    def _progress(self) -> None:
        if time.monotonic() - self._last_answer < HEARTBEAT_SECONDS:
            return
        self._answer({"alive": True})
        if select.select([0], [], [], 0)[0]:
            self._request()  # in the middle of a file only "stop" or the end can come
            raise _Stopped

    def _request(self) -> dict[str, Any]:
        line = sys.stdin.readline()
        if not line:
            sys.exit(0)
        request: dict[str, Any] = json.loads(line)
        return request

    def _answer(self, answer: dict[str, Any]) -> None:
        os.write(self._answers, json.dumps(answer).encode() + b"\n")
        self._last_answer = time.monotonic()


if __name__ == "__main__":
    main()
