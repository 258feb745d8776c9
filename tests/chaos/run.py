"""One run: a job over a small library, faults that strike it, a second job that finds little to do, the judgement."""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checker
from tests.chaos.database import Template
from tests.chaos.faults import KINDS, SHARED, Missed, Scene
from tests.chaos.instance import Machine, make_machine, wait_until
from tests.chaos.library import DAMAGED_TRACK, Corpus, Library
from tests.chaos.schedule import END, Strike
from tests.chaos.share import Share
from tests.chaos.watcher import Watcher

DISK_MEGABYTES = 256
MOMENT_SECONDS = 90.0  # to wait for the right moment before a fault strikes anyway
COMMIT_BYTES = 60_000  # less than the vectors of a chunk, more than anything else that a worker writes
END_SECONDS = 300.0  # for a job to end by itself after the last fault is over
DAMAGE = {DAMAGED_TRACK: "mostly damaged"}


@dataclass
class Report:
    """What a run has shown. ``missed`` faults found nothing to strike; a reason stands with each."""

    seed: int
    schedule: list[str]
    struck: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    timeline: list[str] = field(default_factory=list)
    """What happened when, in seconds since the job began."""
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    surplus: int = 0
    recomputed: int = 0
    tried_again: int = 0
    """(track, model) that a death took away before their result was written."""
    unpruned: int = 0
    """Vectors of tracks that Navidrome no longer has, after the second job."""
    polls: int = 0
    failed_polls: list[str] = field(default_factory=list)
    backwards: list[str] = field(default_factory=list)
    slowest_poll: float = 0.0
    job_seconds: float = 0.0
    seconds: float = 0.0
    stop_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    folder: str = ""

    @property
    def passed(self) -> bool:
        return not (
            any(getattr(self, name) for name in FIGURES) or self.failed_polls or self.backwards or self.problems
        )

    def __str__(self) -> str:
        figures = ", ".join(f"{name} {getattr(self, name)}" for name in FIGURES)
        polls = f"{len(self.failed_polls)} of {self.polls} polls failed"
        faults = f"{len(self.struck)} faults, {len(self.missed)} missed"
        return (
            f"seed {self.seed}: {'passed' if self.passed else 'FAILED'} in {self.seconds:.0f} s: "
            f"{faults}; {figures}; {polls}"
        )


FIGURES = ("lost", "doubled", "wrong", "surplus", "recomputed", "unpruned")


class Pending:
    """Harm that is undone after a while, in the thread that did it."""

    def __init__(self) -> None:
        self._undos: list[tuple[float, Callable[[], object]]] = []

    def add(self, seconds: float, action: Callable[[], object]) -> None:
        self._undos.append((time.monotonic() + seconds, action))

    def undo_due(self) -> bool:
        """Undo what is due; True when nothing is left. What undoes may wait, and so come here again."""
        while due := next((undo for undo in self._undos if undo[0] <= time.monotonic()), None):
            self._undos.remove(due)
            due[1]()
        return not self._undos

    def undo_all(self) -> None:
        while self._undos:
            self._undos.pop(0)[1]()


class Run:
    """``template``: of the databases. ``can_mount``: whether a small disk may be had."""

    def __init__(self, corpus: Corpus, template: Template, *, can_mount: bool) -> None:
        self.corpus = corpus
        self.template = template
        self.can_mount = can_mount

    def __call__(self, seed: int, schedule: Sequence[Strike], rebuild: Sequence[Strike]) -> Report:
        """Run to the judgement; what fails leaves its folder and names it."""
        report = Report(seed, [str(strike) for strike in [*schedule, *rebuild]])
        root = Path(tempfile.mkdtemp(prefix="nc-", dir="/tmp"))  # short: unix sockets lie in it
        small_disk = self.can_mount and any(strike.kind == "fill disk" for strike in [*schedule, *rebuild])
        began = time.monotonic()
        library = Library(root, self.corpus)
        with _home(root, small_disk) as home, _share(library, [*schedule, *rebuild]) as share:
            environment = {f"NAVEMBED_{key.upper()}": str(path) for key, path in self.corpus.checkpoints.items()}
            environment |= {"NAVEMBED_LIBRARY": "navidrome", "NAVIDROME_DB_PATH": str(library.database)}
            machine = make_machine(home, self.template.copy(home), environment)
            try:
                _Trial(machine, library, report, small_disk, share).carry_out(schedule, rebuild)
            except Exception as error:
                report.problems.append(f"{type(error).__name__}: {error}")
                (root / "traceback.txt").write_text(traceback.format_exc())
            finally:
                machine.kill_all()
                machine.end()
                if report.passed:
                    machine.database.close()
            if small_disk and not report.passed:
                shutil.copytree(home, root / "kept", ignore=shutil.ignore_patterns("*.sock"))
        report.seconds = time.monotonic() - began
        if report.passed:
            shutil.rmtree(root)
        else:
            report.folder = str(root)
        return report


class _Trial:
    def __init__(
        self, machine: Machine, library: Library, report: Report, small_disk: bool, share: Share | None
    ) -> None:
        self.machine = machine
        self.library = library
        self.report = report
        self.pending = Pending()
        self.watcher = Watcher(machine)
        self.scene = Scene(machine, library, self.watcher, 0, self.pending.undo_all, self._wait, small_disk, share)
        self.scene.spares = list(range(library.corpus.used, len(library.corpus.paths)))
        self.jobs: list[int] = []
        self.damage = DAMAGE
        self._began = time.monotonic()

    def carry_out(self, schedule: Sequence[Strike], rebuild: Sequence[Strike]) -> None:
        """Strike a first job; then one that embeds everything anew, if there are faults for it."""
        self.machine.serve()
        self.watcher.start()
        try:
            self._began = time.monotonic()
            self._struck_job(schedule, clear=False)
            self.report.job_seconds = time.monotonic() - self._began
            self._second_job()
            if rebuild:
                self._struck_rebuild(rebuild)
                self._second_job()
        finally:
            with suppress(OSError):
                self.pending.undo_all()
            self.watcher.stop()
            self._report_polls()
        self._stop()

    # Jobs that are struck

    def _struck_job(self, schedule: Sequence[Strike], *, clear: bool) -> None:
        self.library.touched.clear()
        self.scene.job = job = self._start(clear=clear)
        for strike in schedule:
            self._strike(strike)
        if not wait_until(self.pending.undo_due, 120):
            raise RuntimeError("what was done could not be undone")
        self._wait_for_end(job)
        if (jobs := self.machine.rows("SELECT id FROM batches_batchjob ORDER BY id")) != [(job,) for job in self.jobs]:
            self.report.problems.append(f"jobs {self.jobs} have become {jobs}")
        self._judge(job, excused=self.library.touched)
        again = (
            "SELECT COALESCE(SUM(attempts - 1), 0) FROM batches_trackresult WHERE status = 'succeeded' AND job_id = ?"
        )
        self.report.tried_again += self.machine.rows(again, job)[0][0]

    def _struck_rebuild(self, schedule: Sequence[Strike]) -> None:
        """Everything anew, beside what search uses: that must be whole all the while, and kept in the end."""
        before = self.machine.vectors("live")
        self.watcher.may_fall = True
        self.watcher.fewest_live = sum(before.values())
        self._struck_job(schedule, clear=True)
        self.watcher.may_fall = False
        may_be_pruned = len(checker.ALIASES) * len(self.library.touched)
        if self.watcher.fewest_live < sum(before.values()) - may_be_pruned:
            self.report.problems.append(f"search had {self.watcher.fewest_live} of {before} vectors in between")
        live, kept, building = (self.machine.vectors(status) for status in ("live", "kept", "building"))
        if before.keys() & live.keys() or kept != before or building or len(live) != len(before):
            self.report.problems.append(f"{before} became live {live}, kept {kept}, building {building}")

    def _strike(self, strike: Strike) -> None:
        job, machine = self.scene.job, self.machine
        self._wait(lambda: False, strike.seconds)
        self._await(strike.moment)
        try:
            if machine.status_of(job) in ("completed", "completed_with_errors", "failed"):
                raise Missed("the job had ended")
            undo = KINDS[strike.kind].strike(self.scene, random.Random(strike.seed))
        except Missed as reason:
            self._note(f"{strike.kind} missed: {reason}")
            self.report.missed.append(f"{strike.kind}: {reason}")
            return
        self._note(strike.kind)
        self.report.struck.append(strike.kind)
        if undo:
            self.pending.add(undo.seconds, undo.action)

    def _await(self, moment: str) -> None:
        """Wait for a moment that may not come: the fault then strikes anyway."""
        moments = {"a commit": (self._next_commit, 0.05), "a write": (self._next_write, 0.001), END: (self._end, 0.01)}
        if moment not in moments:
            return
        watch, pause = moments[moment]
        arrived, deadline = watch(), time.monotonic() + MOMENT_SECONDS
        while time.monotonic() < deadline and self.machine.is_open(self.scene.job) and not arrived():
            self._wait(arrived, 1.0, pause)

    def _end(self) -> Callable[[], bool]:
        """All tracks are done; what was built is compared, checked and perhaps switched to."""
        left = "SELECT COUNT(*) FROM batches_trackresult WHERE job_id = ? AND status IN ('pending', 'running')"
        planned = "SELECT planned FROM batches_batchjob WHERE id = ?"
        job = self.scene.job
        return lambda: bool(self.machine.rows(planned, job)[0][0]) and not self.machine.rows(left, job)[0][0]

    def _next_commit(self) -> Callable[[], bool]:
        written = self._writes()
        return lambda: self._writes() > written

    def _next_write(self) -> Callable[[], bool]:
        """Before the vectors of a chunk are all in the file: a worker's writes tell."""
        workers = [process.pid for process in self.machine.tree("worker")]
        before = self.machine.written(workers)
        return lambda: self.machine.written(workers) > before + COMMIT_BYTES

    def _wait(self, condition: Callable[[], object], seconds: float, pause: float = 0.05) -> bool:
        def look() -> object:
            self.pending.undo_due()
            return condition()

        return wait_until(look, seconds, pause)

    # The job that finds little to do

    def _second_job(self) -> None:
        job = self._start(clear=False)
        self._wait_for_end(job)
        self._judge(job, excused=())
        gone = [track for _, track in self._found.database if track not in self.library.truth]
        self.report.unpruned += len(gone)

    # Both

    def _start(self, *, clear: bool) -> int:
        self._logged = self.machine.rows("SELECT COALESCE(MAX(id), 0) FROM chaos_log")[0][0]
        status, reply = self.machine.call("/batch/start", {"models": None, "clearExisting": clear})
        if status != 200:
            raise RuntimeError(f"the start of a job was answered with {status}: {reply}")
        self.jobs.append(int(reply["job_id"]))
        return self.jobs[-1]

    def _wait_for_end(self, job: int) -> None:
        if not wait_until(lambda: not self.machine.is_open(job), END_SECONDS, pause=0.3):
            state = self.machine.rows("SELECT status, message FROM batches_batchjob WHERE id = ?", job)
            raise RuntimeError(f"job {job} has not ended after {END_SECONDS:.0f} s: {state}")

    def _judge(self, job: int, *, excused: Collection[str]) -> None:
        """Add to the report what is wrong now. A job that is over must show 100 %."""
        self._note(f"job {job} has ended")
        self._found = checker.read(self.machine.database, self.machine.home / "milvus.sock")
        verdict = checker.judge(self._found, self.library.truth, self.library.corpus.reference, excused=excused)
        for name in ("lost", "doubled", "wrong", "surplus"):
            setattr(self.report, name, getattr(self.report, name) + getattr(verdict, name))
        self.report.recomputed += self._recomputed()
        problems = checker.judge_job(self.machine.database, job, excused, self.damage)
        self.damage = {}  # known now, and not tried again
        _, reply = self.machine.call("/batch/progress")
        if (reply["job_id"], reply["progress_percent"]) != (job, 100.0):
            problems.append(f"progress of the ended job {job} is {reply}")
        self.report.problems += [f"job {job}: {problem}" for problem in [*verdict.details, *problems]]

    def _recomputed(self) -> int:
        """How many of the newest job's writes repeat an earlier one: same space, same audio, whoever's it is."""
        first: dict[tuple[Any, ...], int] = {}
        log = self.machine.rows("SELECT id, space, audio FROM chaos_log ORDER BY id")
        for number, *key in log:
            first.setdefault(tuple(key), number)
        return sum(number > self._logged and number != first[tuple(key)] for number, *key in log)

    def _note(self, event: str) -> None:
        self.report.timeline.append(f"{time.monotonic() - self._began:.0f} s: {event}, {self._writes()} vectors")

    def _writes(self) -> int:
        return int(self.machine.rows("SELECT COUNT(*) FROM chaos_log")[0][0])

    def _report_polls(self) -> None:
        watcher, report = self.watcher, self.report
        report.polls, report.slowest_poll = watcher.polls, round(watcher.slowest, 2)
        report.failed_polls, report.backwards = watcher.failed, watcher.backwards

    def _stop(self) -> None:
        began = time.monotonic()
        ended = self.machine.run("stop")
        self.report.stop_seconds = round(time.monotonic() - began, 1)
        if ended.returncode or not wait_until(lambda: not self.machine.pids(), 2):
            self.report.problems.append(f"left after stop: {sorted(self.machine.pids())} {ended.stderr}")


@contextmanager
def _share(library: Library, schedule: Sequence[Strike]) -> Iterator[Share | None]:
    """Make the library, seen through a share if that is to be in trouble and the system has FUSE."""
    share = None
    if any(strike.kind in SHARED for strike in schedule):
        library.seen.mkdir()
        with suppress(OSError):
            share = Share(library.root / "source", library.seen)
    library.is_shared = share is not None
    library.make()
    try:
        yield share
    finally:
        if share:
            share.close()


@contextmanager
def _home(root: Path, small_disk: bool) -> Any:
    """A folder for the instance, on a disk of its own if it is to be filled."""
    home = root / "home"
    home.mkdir()
    if small_disk:
        options = ["-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "tmpfs", str(home)]
        subprocess.run(["mount", *options], check=True)
    try:
        yield home
    finally:
        if small_disk:
            subprocess.run(["umount", "-l", str(home)], check=True)
