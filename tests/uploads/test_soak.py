"""A thousand uploads into an instance as it is served, beside a job, while its processes are killed."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from navembed_site.demo.encode import write_audio
from tests.audio_files import tone
from tests.chaos.database import Template
from tests.chaos.instance import Machine, make_machine, wait_until
from tests.chaos.library import Corpus, Library
from tests.uploads.client import GoClient

UPLOADS, CLIENTS = 1_000, 8
KILL_SECONDS = 20
MOST_GROWTH = 64 * 2**20

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]


@pytest.fixture
def machine(short_tmp: Path, checkpoints: dict[str, Path]) -> Iterator[Machine]:
    """It is served, has a library, and listens for uploads."""
    (short_tmp / "corpus").mkdir()
    library = Library(short_tmp, Corpus(short_tmp / "corpus", checkpoints, short=0, long=200))
    library.make()
    (short_tmp / "template").mkdir()
    home = short_tmp / "home"
    home.mkdir(mode=0o700)
    environment = {f"NAVEMBED_{key.upper()}": str(path) for key, path in checkpoints.items()}
    environment |= {"NAVEMBED_LIBRARY": "navidrome", "NAVIDROME_DB_PATH": str(library.database)}
    environment |= {"NAVEMBED_UPLOAD_SOCKET": str(short_tmp / "uploads.sock")}
    made = make_machine(home, Template(short_tmp / "template").copy(home), environment)
    try:
        made.serve()
        yield made
    finally:
        made.kill_all()
        made.end()


class Clients:
    """Upload files, each from a thread of its own, and count the answers."""

    def __init__(self, client: GoClient, paths: list[Path]) -> None:
        self.client = client
        self.left = paths
        self.answers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def is_done(self, seconds: float) -> bool:
        return wait_until(lambda: not any(thread.is_alive() for thread in self._threads), seconds)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self.left:
                    return
                path = self.left.pop()
            answer = self.client.upload(path)
            with self._lock:
                self.answers[answer.get("warning") or answer["status"]] += 1


def memory_of_uploads(machine: Machine) -> int:
    return int(psutil.Process(machine.tree("uploads")[0].pid).memory_info().rss)


def test_a_thousand_uploads_beside_a_job_whose_processes_are_killed(machine: Machine, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number:04}.flac" for number in range(UPLOADS)]
    for number, path in enumerate(paths):
        write_audio(path, tone(4.0, 22_050, seed=1_000 + number), 22_050)
    memory: list[int] = []
    jobs = killed = 0
    clients = Clients(GoClient(machine.home.with_name("uploads.sock")), [*paths])
    while not clients.is_done(KILL_SECONDS):
        memory.append(memory_of_uploads(machine))
        status, _ = machine.call("/batch/start", {"clearExisting": True})
        jobs += status == 200
        victim = ("embedder", "worker")[killed % 2]
        killed += sum(machine.signal(process.pid, signal.SIGKILL) for process in machine.tree(victim)[:1])
    print(f"{jobs} starts of a job, {killed} processes killed, memory of uploads {memory[0]} to {memory[-1]}")
    assert clients.answers == {"ok": UPLOADS}
    assert machine.rows("SELECT COUNT(*) FROM embeddings_upload WHERE accepted") == [(UPLOADS,)]
    assert machine.rows("SELECT COUNT(*) FROM embeddings_uploadembedding") == [(UPLOADS,)]
    assert memory[-1] - memory[len(memory) // 10] < MOST_GROWTH
