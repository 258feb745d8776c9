"""How fast the web server answers polls while a batch runs: in a scratch instance, with tiny models, over loopback."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from navembed_site.benchmarks.embedding.sizes import make_checkpoints
from navembed_site.benchmarks.jobs import Figure
from navembed_site.benchmarks.load import Load
from navembed_site.benchmarks.scratch import TOLD_CHARACTERS, StepFailed, environment_of, python
from navembed_site.demo.encode import write_audio

RATE = 22_050
TRACK_SECONDS = 60
BEGIN_SECONDS = 300.0
END_SECONDS = 3_600.0
MILLISECONDS, A_SECOND = 50, 300
"""What is wanted: 99 of 100 polls are faster, and there are more of them."""


@dataclass(frozen=True)
class Effort:
    """How hard the server is asked."""

    connections: int
    seconds: float
    tracks: int
    """Of a minute, in the library of the batch."""


@dataclass(frozen=True)
class Scratch:
    """A running instance that sees nothing of the user's."""

    port: int
    environment: dict[str, str]

    def manage(self, *arguments: str) -> str:
        return python("manage.py", *arguments, environment=self.environment)

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Return what the answer says."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            content = json.dumps(body) if body is not None else None
            connection.request(method, path, content, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            text = reply.read()
            if reply.status != 200:
                raise StepFailed(f"{method} {path} was answered with {reply.status}: {text[:TOLD_CHARACTERS]!r}")
            return json.loads(text)


def measure(effort: Effort, *, folder: Path | None = None) -> Iterator[Figure]:
    """Yield the figures of each address as they are measured. Raises StepFailed."""
    with (
        tempfile.TemporaryDirectory(prefix="navembed-", dir=folder) as home,
        running(Path(home), effort.tracks) as scratch,
    ):
        token = scratch.manage("create_token", "benchmark", "--scope", "read").split()[-1]
        job = scratch.call("POST", "/batch/start", {})["job_id"]
        wait(lambda: scratch.call("GET", "/batch/progress")["current_track"])
        path, headers = f"/api/v1/batches/{job}", {"Authorization": f"Bearer {token}"}
        yield from _figures("/batch/progress", _load(scratch, effort, "/batch/progress", {}), MILLISECONDS)
        yield from _figures("/api/v1/batches/{id}", _load(scratch, effort, path, headers))
        yield from _figures("the same with ETags", _load(scratch, effort, path, headers, "--tagged"))
        if scratch.call("GET", "/batch/progress")["status"] != "running":
            raise StepFailed("the batch ended before all was measured; give it more --tracks")


def _figures(what: str, load: Load, wanted: float | None = None) -> Iterator[Figure]:
    half, most, longest = load.milliseconds
    yield Figure(f"{what}: answers a second", load.answers / load.seconds, "/s", at_least=A_SECOND)
    yield Figure(f"{what}: half of them", half, "ms")
    yield Figure(f"{what}: 99 of 100", most, "ms", wanted)
    yield Figure(f"{what}: the slowest", longest, "ms")
    if load.unchanged:
        yield Figure(f"{what}: unchanged, 304", 100 * load.unchanged / load.answers, "%")
    if load.errors:
        raise StepFailed(f"{what}: {load.errors} of {load.answers} answers")


def _load(scratch: Scratch, effort: Effort, path: str, headers: dict[str, str], *options: str) -> Load:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    load = ["-m", "navembed_site.benchmarks.load", "--port", str(scratch.port)]
    load += ["--connections", str(effort.connections), "--seconds", str(effort.seconds), *options]
    request = "\r\n".join([*lines, ""])
    return Load(**json.loads(python(*load, environment=scratch.environment, told=request.encode())))


@contextmanager
def running(home: Path, tracks: int, size: str = "tiny", **variables: str) -> Iterator[Scratch]:
    """An instance with all its processes, over so many links to one file; ``size`` is that of the models."""
    weights = {f"NAVEMBED_{key.upper()}": str(path) for key, path in make_checkpoints(home / "weights", size).items()}
    with _free_port() as port, _free_port() as text_port:
        usual = _settings(home, port, text_port)
        scratch = Scratch(port, environment_of(home, **weights, **(usual | variables)))
        _make_music(home / "music", tracks)
        scratch.manage("serve", "--detach")
    try:
        yield scratch
    finally:
        scratch.manage("stop")


def _settings(home: Path, port: int, text_port: int) -> dict[str, str]:
    return {
        "NAVEMBED_LIBRARY": "folder",
        "NAVIDROME_MUSIC_ROOT": str(home / "music"),
        "NAVIDROME_RECOMMENDER_PORT": str(port),
        "TEXT_EMBEDDING_PORT": str(text_port),
        "TEXT_EMBEDDING_DEVICE": "cpu",
        "NAVEMBED_UPLOAD_SOCKET": str(home / "uploads.sock"),
    }


def _make_music(folder: Path, tracks: int) -> None:
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, (1, TRACK_SECONDS * RATE)).astype(np.float32)
    write_audio(folder / "00000.flac", noise, RATE)
    for number in range(1, tracks):
        (folder / f"{number:05}.flac").hardlink_to(folder / "00000.flac")


@contextmanager
def _free_port() -> Iterator[int]:
    """A port that nobody else is given inside the block; a server may listen on it all the same."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


def wait(condition: Callable[[], object], seconds: float = BEGIN_SECONDS) -> None:
    """Wait until the batch is so far. Raises StepFailed."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StepFailed("the batch does not get on; see what `serve` does on this machine")
        time.sleep(0.2)
