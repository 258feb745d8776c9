"""The instance of a run: its processes as the kernel shows them, its HTTP, its database as plain SQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.database import Database, Rows
from tests.instance.conftest import MANAGE, Instance

SERVE_SECONDS = 180.0
CONTROL_SECONDS = 120.0
OPEN = ("initialized", "running", "waiting", "cancelling", "queued", "pausing", "paused")


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    role: str
    """``worker``, ``light``, ``embedder``, ``decoder``, ``milvus_lite``, ``web``, ``supervisor`` or another command."""
    ticks: int
    """CPU time so far."""


class Machine(Instance):
    """An instance that is killed, frozen and looked into."""

    def __init__(self, home: Path, environment: dict[str, str], database: Database) -> None:
        super().__init__(home, environment)
        self.database = database
        self.clock = home.with_name("clock")
        """Seconds by which the instance's clock is wrong."""
        self.clock.write_text("0")

    def rows(self, query: str, *values: object) -> Rows:
        return self.database.rows(query, *values)

    def serve(self, *options: str) -> None:
        """Start everything and wait until it answers. Raises RuntimeError when it does not."""
        ended = subprocess.run(
            [*self.prefix, *MANAGE, "serve", "--detach", *options],
            env=os.environ | self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SERVE_SECONDS,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"serve: {ended.stdout}{ended.stderr}")

    def kill_all(self) -> int:
        """As a power cut does, without the disk: nobody gets a chance. Returns how many processes."""
        killed = 0
        while pids := self.pids():
            supervisors = {p.pid for p in self.tree("supervisor")}
            for pid in [*supervisors, *(pids - supervisors)]:
                killed += self.signal(pid, signal.SIGKILL)
            time.sleep(0.02)
        return killed

    def signal(self, pid: int, number: signal.Signals) -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def tree(self, role: str) -> list[Process]:
        """The processes of a role, its main one first."""
        found = [p for p in map(_process, self.pids()) if p and p.role == role]
        pids = {process.pid for process in found}
        return sorted(found, key=lambda process: (process.parent in pids, process.pid))

    def written(self, pids: Iterable[int]) -> int:
        """Return how many bytes these processes have written to files so far; 0 for those that have ended."""
        total = 0
        for pid in pids:
            with suppress(OSError):
                lines = Path(f"/proc/{pid}/io").read_text().splitlines()
                total += next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
        return total

    def call(self, path: str, body: dict[str, Any] | None = None, *, timeout: float = 60) -> tuple[int, Any]:
        """Return status and JSON of a reply; a body makes it a POST. Raises OSError when nobody answers."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(body).encode() if body is not None else None,
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode(errors="replace")

    def control(self, action: str, job: int, wait: Callable[[Callable[[], object], float], bool]) -> str:
        """Run ``manage.py job`` like a patient human, again while the database is away; ``wait`` as in ``Scene``.

        Returns what was refused, empty when it was done.
        """
        deadline = time.monotonic() + CONTROL_SECONDS
        while True:
            code, text = self._control(action, job, wait)
            if not code:
                return ""
            if "CommandError: " in text:
                return text.partition("CommandError: ")[2]
            if "OperationalError" not in text or time.monotonic() > deadline:
                raise RuntimeError(f"{action} of job {job}: {code} {text[-500:]}")
            wait(lambda: False, 1.0)

    def _control(self, action: str, job: int, wait: Callable[[Callable[[], object], float], bool]) -> tuple[int, str]:
        with tempfile.TemporaryFile("w+") as said:
            process = subprocess.Popen(
                [*MANAGE, "job", action, str(job)], env=os.environ | self.environment, stdout=said, stderr=said
            )
            if not wait(lambda: process.poll() is not None, CONTROL_SECONDS):
                process.kill()
            code = process.wait()
            said.seek(0)
            return code, said.read().strip()

    def status_of(self, job: int) -> str:
        return str(self.rows("SELECT status FROM batches_batchjob WHERE id = ?", job)[0][0])

    def vectors(self, status: str) -> dict[int, int]:
        """How many vectors each space of this status holds."""
        count = "(SELECT COUNT(*) FROM embeddings_embedding e WHERE e.space_id = s.id)"
        return dict(self.rows(f"SELECT id, {count} FROM embeddings_embeddingspace s WHERE status = ?", status))

    def is_open(self, job: int) -> bool:
        return self.status_of(job) in OPEN


def make_machine(home: Path, database: Database, environment: dict[str, str]) -> Machine:
    """Make an instance in ``home`` over a database of its own."""
    usual = {"NAVEMBED_HOME": str(home), "TEXT_EMBEDDING_DEVICE": "cpu", "NAVEMBED_DECODE_PROCESSES": "2"}
    usual |= {"PYTHONPATH": str(Path(__file__).with_name("clock")), "CHAOS_CLOCK": str(home.with_name("clock"))}
    return Machine(home, usual | {"DATABASE_URL": database.url} | environment, database)


def wait_until(condition: Callable[[], object], seconds: float, pause: float = 0.1) -> bool:
    """Wait until ``condition`` holds; return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def _process(pid: int) -> Process | None:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return None
    return Process(pid, int(fields[1]), _role(words), int(fields[11]) + int(fields[12]))


def _role(words: list[str]) -> str:
    if "supervisor.supervisord" in words:
        return "supervisor"
    if "embeddings.audio.decoder_process" in words:
        return "decoder"
    if MANAGE[1] not in words:
        return ""
    command = words[words.index(MANAGE[1]) + 1]
    return "light" if command == "worker" and "--light" in words else command
