"""Decoders as child processes: threads do not speed PyAV up, and a file may crash or hang FFmpeg."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from embeddings import errors
from embeddings.audio.split import Cut
from embeddings.audio.summary import BLOCK_SECONDS, DEFAULTS, AudioSummary, Limits
from embeddings.encoders.base import AudioFormat
from embeddings.errors import AudioError, DecoderDied
from navembed_site.process.patience import is_readable

__all__ = ["AudioBlock", "AudioSummary", "DecodePool"]

START_SECONDS = 60.0
"""What a child may take to import its libraries on a machine under load."""

CLOSE_SECONDS = 2.0
"""For killed children to end, of a process that ends itself."""

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """The next piece of a track: float32 [channels, samples] per format, owned by the receiver."""

    waveforms: dict[AudioFormat, NDArray[np.float32]]


class DecodePool:
    """At most ``processes`` decoders, started when first needed and again after one died. Thread-safe.

    A decoder that makes no progress for ``hang_seconds`` is killed; the others do not notice.
    """

    def __init__(
        self,
        processes: int,
        *,
        limits: Limits = DEFAULTS,
        hang_seconds: float = 120,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        self.processes = processes
        self.limits = limits
        self._hang_seconds = hang_seconds
        self._block_seconds = block_seconds
        self._closed = False
        self._living: set[_Decoder] = set()
        # The last one used is the next: what is not needed is never started. None is a place without a process.
        self._places: queue.LifoQueue[_Decoder | None] = queue.LifoQueue()
        for _ in range(processes):
            self._places.put(None)
        self._line = threading.Lock()  # a thread that comes back at once would be served before those that wait
        # The kernel kills children when the thread that started them ends, so one that outlives all calls starts them.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="decoder-starter")
        self._lock = threading.Lock()

    def decode(
        self, path: str, formats: Sequence[AudioFormat], *, sound: bool = False
    ) -> Generator[AudioBlock | AudioSummary, None, None]:
        """Yield the track's blocks, then its summary. Occupies one decoder until it ends or is closed.

        Raises AudioFileMissing and AudioError as ``embeddings.audio.decode.decode`` does, also after some blocks;
        DecoderDied when the decoder crashed, was killed or hung.
        """
        request = {"do": "decode", "path": str(Path(path).absolute()), "limits": asdict(self.limits), "sound": sound}
        wanted = [list(each) for each in formats]
        with self._decoder() as decoder:
            decoder.send({**request, "formats": wanted, "block_seconds": self._block_seconds})
            while "summary" not in (answer := decoder.result(self._hang_seconds)):
                yield decoder.block(answer["block"])
                decoder.send({"do": "next"})
            yield AudioSummary(**answer["summary"])

    def fingerprint(self, path: str) -> bytes:
        """Return a file's acoustic fingerprint; raises as ``decode`` does."""
        *_, summary = self.decode(path, [], sound=True)
        return bytes.fromhex(cast("AudioSummary", summary).sound)

    def audio_hash(self, path: str, *, should_stop: Callable[[], bool] = lambda: False) -> str:
        """As ``embeddings.audio.decode.audio_hash``, in a decoder; raises as ``decode`` does.

        ``should_stop`` is asked about twice a second; when it says so, a passing AudioError is raised.
        """
        with self._decoder() as decoder:
            decoder.send({"do": "hash", "limits": asdict(self.limits), "path": str(Path(path).absolute())})
            return str(decoder.result(self._hang_seconds, should_stop)["hash"])

    def tags(self, path: str) -> dict[str, Any]:
        """As ``embeddings.audio.tags.read``, in a decoder. Raises AudioError, also when they cannot be read."""
        with self._decoder() as decoder:
            decoder.send({"do": "tags", "limits": asdict(self.limits), "path": path})
            found: dict[str, Any] = decoder.result(self._hang_seconds)["tags"]
            return found

    def split(self, path: str, cuts: Sequence[Cut], *, should_stop: Callable[[], bool] = lambda: False) -> list[float]:
        """As ``embeddings.audio.split.split``, in a decoder; returns the seconds of each. Raises as it does."""
        request = {"do": "split", "limits": asdict(self.limits), "cuts": [asdict(cut) for cut in cuts]}
        with self._decoder() as decoder:
            decoder.send({**request, "path": path})
            found: list[float] = decoder.result(self._hang_seconds, should_stop)["split"]
            return found

    @property
    def pids(self) -> list[int]:
        """Process ids of the decoders that live now."""
        with self._lock:
            return [decoder.pid for decoder in self._living if decoder.alive]

    def close(self) -> None:
        """Kill all decoders, also busy ones: their callers get DecoderDied, as do later calls."""
        with self._lock:
            self._closed = True
            living = list(self._living)
        for patience in (0, CLOSE_SECONDS):
            for decoder in living:
                decoder.kill(patience)
        with contextlib.suppress(queue.Empty):
            while True:
                self._forget(self._places.get_nowait())
        self._places.put(None)  # a waiting caller takes it, is refused and passes it on
        self._starter.shutdown()

    @contextlib.contextmanager
    def _decoder(self) -> Iterator[_Decoder]:
        with self._line:
            place = self._places.get()
        try:
            if place is None or not place.alive:
                self._forget(place)
                place = None
                place = self._start()
            yield place
        finally:
            if place is not None:
                place.stop(self._hang_seconds)
                if not place.alive:
                    self._forget(place)
                    place = None
            self._places.put(place)

    def _start(self) -> _Decoder:
        with self._lock:
            if self._closed:
                raise DecoderDied("the decoders have been shut down")
            starting = self._starter.submit(_Decoder)
        decoder = starting.result()
        with self._lock:
            self._living.add(decoder)
            closed = self._closed
        if closed:
            decoder.kill()
        try:
            decoder.wait_ready()
        except DecoderDied:
            self._forget(decoder)
            raise
        return decoder

    def _forget(self, decoder: _Decoder | None) -> None:
        if decoder is not None:
            decoder.kill()
            decoder.release()
            with self._lock:
                self._living.discard(decoder)


class _Decoder:
    """The parent's end of one child; used by one thread at a time, but ``kill`` may come from any."""

    def __init__(self) -> None:
        self._memory = os.memfd_create("decoded audio")
        command = [sys.executable, "-m", "embeddings.audio.decoder_process", str(self._memory), str(os.getpid())]
        self._process = subprocess.Popen(
            command,
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._memory],
            bufsize=0,
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self._received = b""
        self._busy = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        self._receive(START_SECONDS)

    def send(self, request: dict[str, Any]) -> None:
        self._busy = True
        try:
            self._requests.write(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise self._death() from None

    def result(self, hang_seconds: float, should_stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """The next answer that is no sign of life. Raises what the child reports."""
        while "alive" in (answer := self._receive(hang_seconds)):
            if should_stop():
                raise AudioError("nobody waits for this file any more", permanent=False)
        self._busy = "block" in answer
        if "error" in answer:
            error: type[AudioError] = getattr(errors, answer["error"])
            raise error(answer["message"], permanent=answer["permanent"])
        return answer

    def block(self, shapes: list[tuple[int, int, int]]) -> AudioBlock:
        """Copy the arrays out of the memory file; ``shapes`` are (sample rate, channels, samples)."""
        waveforms: dict[AudioFormat, NDArray[np.float32]] = {}
        offset = 0
        for sample_rate, channels, samples in shapes:
            waveform = np.empty((channels, samples), np.float32)
            rest = waveform.reshape(-1).view(np.uint8).data
            while len(rest):
                read = os.preadv(self._memory, [rest], offset)
                if read == 0:
                    raise self._death()
                rest, offset = rest[read:], offset + read
            waveforms[AudioFormat(sample_rate, channels)] = waveform
        return AudioBlock(waveforms)

    def stop(self, hang_seconds: float) -> None:
        """Make the child ready for another file when its caller left this one early."""
        try:
            if self._busy and self.alive:
                self.send({"do": "stop"})
                while self._busy:
                    self.result(hang_seconds)
        except AudioError:
            pass  # the file's end, or the child's; the caller looks

    def kill(self, patience: float | None = None) -> None:
        """Kill it and wait for its end: one that reads from a share that does not answer ends when that does.

        Until then it keeps its place, so that no more than those that there may be come to hang.
        """
        self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)

    def release(self) -> None:
        self._requests.close()
        self._answers.close()
        os.close(self._memory)

    def _receive(self, timeout: float) -> dict[str, Any]:
        descriptor = self._answers.fileno()
        while b"\n" not in self._received:
            if not is_readable(descriptor, timeout):
                self.kill()
                raise DecoderDied(f"decoder hung for {timeout:g} s")
            received = os.read(descriptor, 65_536)
            if not received:
                raise self._death()
            self._received += received
        line, self._received = self._received.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _death(self) -> DecoderDied:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()
            return DecoderDied("decoder closed its pipe")
        if code == -signal.SIGKILL:
            return DecoderDied("decoder was killed by SIGKILL (perhaps the machine ran out of memory)")
        if code < 0:
            return DecoderDied(f"decoder crashed with {signal.Signals(-code).name}")
        return DecoderDied(f"decoder ended with exit code {code}")
