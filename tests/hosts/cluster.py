"""Two hosts of one instance, with homes, embedders and workers of their own; PostgreSQL, Milvus, music are shared."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from embeddings.encoders.registry import MODEL_KEYS
from navembed_site.process.unix_socket import accepts
from tests import postgres
from tests.chaos import checker
from tests.chaos.database import Rows
from tests.chaos.instance import Machine, wait_until
from tests.chaos.library import DAMAGED_TRACK, Corpus, Library
from tests.hosts.links import Cable, Link, Relayed
from tests.instance.conftest import MANAGE
from tests.instances import shared_checkpoints
from tests.network import Namespace, can_have_namespaces

START_SECONDS = 180
WORK_SECONDS = 0.1
FIRST = "first"
DAMAGE = {DAMAGED_TRACK: "mostly damaged"}
# Who has written which vector, and which of them together; a host is known by the name of its connection.
LOG = """
CREATE TABLE host_log (
    id BIGSERIAL PRIMARY KEY, space BIGINT, track TEXT, host TEXT, chunk BIGINT DEFAULT txid_current()
);
CREATE FUNCTION host_log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO host_log (space, track, host) VALUES (NEW.space_id, NEW.track_id, current_setting('application_name'));
    RETURN NULL; END $$;
CREATE TRIGGER host_log AFTER INSERT OR UPDATE OF vector ON embeddings_embedding
    FOR EACH ROW EXECUTE FUNCTION host_log();
"""
START = """
from batches.requests import JobRequest
from batches.services import start_job
print(start_job(JobRequest({models}, limit={limit})).pk)
"""


class SharedDatabase:
    """The hosts' database, as plain SQL from outside."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.socket = f"{unquote(urlsplit(url).netloc.rpartition('@')[2])}/.s.PGSQL.5432"
        with psycopg.connect(f"{url.rpartition('/')[0]}/postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {url.rpartition('/')[2]}".encode())

    def migrate(self, home: Path) -> None:
        environment = os.environ | {"NAVEMBED_HOME": str(home), "DATABASE_URL": self.url}
        subprocess.run([*MANAGE, "migrate", "--verbosity", "0"], env=environment, check=True)
        with psycopg.connect(self.url) as connection:
            connection.execute(LOG.encode())

    def rows(self, query: str, *values: object) -> Rows:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.replace("?", "%s").encode(), values).fetchall()

    def damage(self) -> list[str]:
        return []

    def lock(self) -> None:
        return None

    def freeze(self, seconds: float) -> bool:
        return False

    def close(self) -> None:
        pass


class Host(Machine):
    """One of the machines."""

    link: Link

    def __init__(self, home: Path, environment: dict[str, str], database: SharedDatabase, link: Link) -> None:
        home.mkdir()
        where, milvus = link.addresses
        environment = environment | {
            "NAVEMBED_HOME": str(home),
            "DATABASE_URL": f"postgres://postgres@{where}/navembed?application_name={home.name}",
            "NAVIDROME_MILVUS_URI": f"http://{milvus}",
        }
        super().__init__(home, environment, database)
        self.name = home.name
        self.prefix = link.prefix
        self.link = link

    def work(self) -> None:
        """Start what a host needs for jobs, and wait until it can take part in one. The first has the watchdog, too."""
        self.serve("--only", "worker,embedder,light" if self.name == FIRST else "worker,embedder")
        assert wait_until(self.is_ready, START_SECONDS), "the host does not come to work"

    def is_ready(self) -> bool:
        if not (self.home / "host").exists():
            return False
        key = (self.home / "host").read_text().strip()
        here = "SELECT 1 FROM batches_device JOIN batches_host ON key = host_id WHERE key = ? AND seen_at IS NOT NULL"
        return accepts(self.home / "embedder.sock") and self.rows(here, key) == [(1,)]

    @contextmanager
    def device_stands_still(self) -> Iterator[None]:
        pids = [process.pid for role in ("embedder", "decoder") for process in self.tree(role)]
        for pid in pids:
            self.signal(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            self.signal(pid, signal.SIGCONT)


class Cluster:
    """``milvus``: the path of a socket by which Milvus is reached. ``services``: the network of what is shared."""

    def __init__(self, root: Path, url: str, milvus: Path, corpus: Corpus, services: Namespace | None) -> None:
        self.milvus = milvus
        self.models = list(corpus.checkpoints)
        self.database = SharedDatabase(url)
        (root / "outside").mkdir()
        self.database.migrate(root / "outside")
        self.library = Library(root, corpus)
        self.library.make()
        environment = {f"NAVEMBED_{key.upper()}": str(path) for key, path in corpus.checkpoints.items()}
        environment |= {"NAVEMBED_LIBRARY": "navidrome", "NAVIDROME_DB_PATH": str(self.library.database)}
        environment |= {"TEXT_EMBEDDING_DEVICE": "cpu", "NAVEMBED_DECODE_PROCESSES": "1"}
        targets = [self.database.socket, str(milvus)]
        links: list[Link] = [Cable(services, n, targets) if services else Relayed(targets) for n in (1, 2)]
        names = (FIRST, "second")
        self.hosts = [
            Host(root / name, environment, self.database, link) for name, link in zip(names, links, strict=True)
        ]

    def start_job(self, limit: int | None = None) -> int:
        started = self.hosts[0].run("shell", "--no-imports", "-c", START.format(models=self.models, limit=limit))
        assert started.returncode == 0, started.stderr
        return int(started.stdout)

    def written(self) -> Counter[str]:
        """How many vectors each host has written."""
        return Counter(dict(self.database.rows("SELECT host, COUNT(*) FROM host_log GROUP BY host")))

    def chunks(self, host: str) -> list[int]:
        """How many vectors each of a host's commits has brought, in their order."""
        sizes = "SELECT COUNT(*) FROM host_log WHERE host = ? GROUP BY chunk ORDER BY MIN(id)"
        return [int(str(size)) for (size,) in self.database.rows(sizes, host)]

    def message_of(self, job: int) -> str:
        return str(self.database.rows("SELECT message FROM batches_batchjob WHERE id = ?", job)[0][0])

    def wait(self, condition: Callable[[], object], seconds: float = 300) -> None:
        assert wait_until(condition, seconds, 0.3), self.state()

    def wait_for_end(self, job: int, seconds: float = 600) -> None:
        self.wait(lambda: not self.hosts[0].is_open(job), seconds)

    def problems(self, job: int, must_fail: Mapping[str, str] = DAMAGE) -> list[str]:
        """Return what is lost, doubled or wrong after a job, by a judge that knows nothing of the product."""
        found = checker.read(self.database, self.milvus)
        verdict = checker.judge(found, self.library.truth, self.library.corpus.reference, models=self.models)
        twice = self.database.rows("SELECT space, track FROM host_log GROUP BY space, track HAVING COUNT(*) > 1")
        return [
            *verdict.details,
            *checker.judge_job(self.database, job, (), must_fail),
            *(f"{track} was written more than once in space {space}" for space, track in twice),
        ]

    def state(self) -> str:
        jobs = self.database.rows("SELECT id, status, message, current_track FROM batches_batchjob")
        devices = self.database.rows("SELECT host_id, problem, lease_until, rates FROM batches_device")
        left = self.database.rows("SELECT status, COUNT(*) FROM batches_trackresult GROUP BY status")
        hosts = self.database.rows("SELECT key, seen_at, now() FROM batches_host")
        logs = [(host.home / "logs" / "worker.log").read_text()[-1000:] for host in self.hosts]
        return "\n".join(map(str, [jobs, left, self.written(), devices, hosts, *logs]))

    def close(self) -> None:
        for host in self.hosts:
            host.kill_all()
            host.end()
            host.link.close()


class Slowed(threading.Thread):
    """Lets a host's device work for one of ``factor`` moments only."""

    def __init__(self, host: Host, factor: int) -> None:
        super().__init__(daemon=True)
        self._host, self._factor = host, factor
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            with self._host.device_stands_still():
                self._ended.wait(WORK_SECONDS * (self._factor - 1))
            self._ended.wait(WORK_SECONDS)

    def __enter__(self) -> Slowed:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()


@contextmanager
def made_cluster(root: Path, milvus: Path, tracks: int, models: Sequence[str] = MODEL_KEYS) -> Iterator[Cluster]:
    """Two hosts at work, each in a network of its own where the system allows it, over a library of short tracks."""
    (root / "corpus").mkdir()
    corpus = Corpus(root / "corpus", {key: shared_checkpoints()[key] for key in models}, tracks, 0)
    with ExitStack() as stack:
        services = Namespace() if can_have_namespaces() else None
        if services:
            stack.callback(services.close)
        made = Cluster(root, stack.enter_context(postgres.server()), milvus, corpus, services)
        stack.callback(made.close)
        for host in made.hosts:
            host.work()
        yield made
