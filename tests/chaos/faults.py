"""What strikes a running job. Each fault does its harm, and may return how to undo it and after how long."""

from __future__ import annotations

import errno
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.database import Release
from tests.chaos.instance import Machine, Process, wait_until
from tests.chaos.library import Library
from tests.chaos.share import Share, hold_files
from tests.chaos.watcher import Watcher

FINISHED = ("completed", "completed_with_errors", "failed")
HELD_UP_SECONDS = 90.0  # for a cancel or pause to be done, while the database is locked or the disk full
ORPHAN_SECONDS = 20.0
APPEAR_SECONDS = 15.0
LOCK_SECONDS = 60.0


class Missed(Exception):
    """There was nothing to strike at this moment."""


@dataclass
class Scene:
    """What a fault may touch."""

    machine: Machine
    library: Library
    watcher: Watcher
    job: int
    undo_all: Callable[[], None]
    wait: Callable[[Callable[[], object], float], bool]
    """Until something holds or seconds are over; meanwhile other harm is undone when its time has come."""
    is_small_disk: bool
    share: Share | None
    """Through which programs see the music, if it is to be in trouble and the system has FUSE."""
    spares: list[int] = field(default_factory=list)
    """Files that no track plays yet."""

    def spare(self, suffix: str = "") -> int:
        """Take a file, of this kind if it matters: another encoding is another reference."""
        paths = self.library.corpus.paths
        fit = [number for number in self.spares if paths[number].suffix == suffix or not suffix]
        if not fit:
            raise Missed(f"no spare file {suffix} is left")
        self.spares.remove(fit[0])
        return fit[0]


@dataclass(frozen=True)
class Undo:
    seconds: float
    action: Callable[[], object]


Fault = Callable[[Scene, random.Random], Undo | None]


@dataclass(frozen=True)
class Kind:
    """``weight``: how often it is drawn. ``costs``: what it takes from the allowance of a run."""

    strike: Fault
    weight: float
    costs: tuple[str, ...] = ()


ALLOWANCE = {
    "embedder": 2,  # a track that was alone at three deaths of the embedder is failed, and rightly so
    "decoder": 2,  # a track is tried three times
    "slow": 1,  # faults that outlast a time-out take a minute
    "reboot": 2,
    "disk": 1,
    "clock": 1,
}


# Kills


def _kill(role: str, *, part: bool | None = None) -> Fault:
    """kill -9 of the role's main process, of any other of its processes (``part``), or of any (None)."""

    def strike(scene: Scene, rng: random.Random) -> None:
        def targets() -> list[Process]:
            tree = scene.machine.tree(role)
            return tree if part is None else tree[1:] if part else tree[:1]

        wait_until(targets, APPEAR_SECONDS)  # decoders start with the first chunk; others may be starting again
        choice = targets()
        if not choice or not scene.machine.signal(rng.choice(choice).pid, signal.SIGKILL):
            raise Missed(f"no {role} runs")

    return strike


def kill_busy_worker(scene: Scene, rng: random.Random) -> None:
    """The child that has worked most is the one that embeds."""
    children = scene.machine.tree("worker")[1:]
    if not children:
        raise Missed("no worker runs")
    scene.machine.signal(max(children, key=lambda child: child.ticks).pid, signal.SIGKILL)


def reboot(scene: Scene, rng: random.Random) -> None:
    scene.undo_all()
    with scene.watcher.outage():
        scene.machine.kill_all()
        scene.machine.serve()


def kill_supervisor(scene: Scene, rng: random.Random) -> None:
    """All others must follow it by themselves; then somebody starts them again."""
    scene.undo_all()
    with scene.watcher.outage():
        _kill("supervisor")(scene, rng)
        if not wait_until(lambda: not scene.machine.pids(), ORPHAN_SECONDS):
            raise RuntimeError(f"orphans after the supervisor's death: {sorted(scene.machine.pids())}")
        scene.machine.serve()


# What does not answer


def _freeze(role: str, low: float, high: float) -> Fault:
    def strike(scene: Scene, rng: random.Random) -> Undo:
        frozen = [process.pid for process in scene.machine.tree(role)]
        if not frozen:
            raise Missed(f"no {role} runs")
        for pid in frozen:
            scene.machine.signal(pid, signal.SIGSTOP)
        return Undo(rng.uniform(low, high), lambda: [scene.machine.signal(pid, signal.SIGCONT) for pid in frozen])

    return strike


def _lock_database(low: float, high: float) -> Fault:
    def strike(scene: Scene, rng: random.Random) -> Undo:
        held: list[Release] = []

        def is_locked() -> bool:
            if release := scene.machine.database.lock():
                held.append(release)
            return bool(held)

        if not scene.wait(is_locked, LOCK_SECONDS):
            raise RuntimeError(f"the database could not be locked in {LOCK_SECONDS} s")
        return Undo(rng.uniform(low, high), held[0])

    return strike


def fill_disk(scene: Scene, rng: random.Random) -> Undo:
    if not scene.is_small_disk:
        raise Missed("no small disk could be mounted")
    ballast = scene.machine.home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return Undo(rng.uniform(3, 10), ballast.unlink)


# Music


def hide_file(scene: Scene, rng: random.Random) -> Undo:
    library, track = scene.library, _any_track(scene, rng)
    path = library.path(track)
    hidden = path.with_name(f"{path.name}.hidden")
    library.touched.add(track)
    path.rename(hidden)
    library.hidden += 1

    def bring_back() -> None:
        hidden.rename(path)
        library.hidden -= 1

    return Undo(rng.uniform(2, 12), bring_back)


def move_music_away(scene: Scene, rng: random.Random) -> Undo:
    library = scene.library
    _require_whole(library)
    library.music.rename(library.away)
    leave_mount_point = rng.random() < 0.5
    if leave_mount_point:
        library.music.mkdir()

    def bring_back() -> None:
        if leave_mount_point:
            library.music.rmdir()
        library.away.rename(library.music)

    return Undo(rng.uniform(3, 8), bring_back)


def move_part_away(scene: Scene, rng: random.Random) -> Undo:
    """As a disk of several that is not mounted: its empty folder stays."""
    library = scene.library
    _require_whole(library)
    library.touched |= library.in_part()  # a file that is missing is tried three times
    library.part.rename(library.away)
    library.part.mkdir()

    def bring_back() -> None:
        library.part.rmdir()
        library.away.rename(library.part)

    return Undo(rng.uniform(3, 8), bring_back)


def _answer_with_errors(scene: Scene, rng: random.Random) -> Undo:
    """The whole share: a server that starts again, a mount that is dead."""
    if share := scene.share:
        share.error = rng.choice([errno.EIO, errno.ENOTCONN, errno.ESTALE, errno.EACCES])
        return Undo(rng.uniform(5, 15), lambda: setattr(share, "error", 0))
    library = scene.library
    _require_whole(library)
    library.music.rename(library.away)
    library.music.mkdir()
    for path in library.away.rglob("*.*"):
        wrong = library.music / path.relative_to(library.away)
        wrong.parent.mkdir(exist_ok=True)
        wrong.symlink_to("/proc/self/mem")  # whose beginning is an input/output error to read

    def bring_back() -> None:
        shutil.rmtree(library.music)
        library.away.rename(library.music)

    return Undo(rng.uniform(5, 15), bring_back)


def _answer_nothing(low: float, high: float) -> Fault:
    def strike(scene: Scene, rng: random.Random) -> Undo:
        if share := scene.share:
            share.blocks = True
            return Undo(rng.uniform(low, high), lambda: setattr(share, "blocks", False))
        return Undo(rng.uniform(low, high), hold_files(scene.library.music.rglob("*.*")))

    return strike


def replace_file(scene: Scene, rng: random.Random) -> None:
    track = _any_track(scene, rng)
    scene.library.replace(track, scene.spare(scene.library.path(track).suffix))


def remove_track(scene: Scene, rng: random.Random) -> None:
    scene.library.remove(_any_track(scene, rng))


def add_track(scene: Scene, rng: random.Random) -> None:
    _require_music(scene)
    number = scene.spare()
    track = f"new{number:03}"
    scene.library.add(track, number)
    scene.library.touched.add(track)


def _any_track(scene: Scene, rng: random.Random) -> str:
    """A track that nothing has happened to yet."""
    _require_music(scene)
    return rng.choice(sorted(set(scene.library.truth) - scene.library.touched))


def _require_whole(library: Library) -> None:
    if library.is_away or library.hidden:
        raise Missed("some of the music is away already")


def _require_music(scene: Scene) -> None:
    if scene.library.is_away:
        raise Missed("the music is away")


def edit_tags(scene: Scene, rng: random.Random) -> None:
    scene.library.edit_tags(_any_track(scene, rng))


def give_new_id(scene: Scene, rng: random.Random) -> None:
    scene.library.give_new_id(_any_track(scene, rng))


# The clock


def set_clock_back(scene: Scene, rng: random.Random) -> None:
    """For the rest of the run; by up to two hours, as where a battery is empty or a zone was wrong."""
    clock = scene.machine.clock
    clock.write_text(str(float(clock.read_text()) - rng.uniform(600, 7200)))


def _freeze_database(low: float, high: float) -> Fault:
    """The server of the database answers nobody; nor can then anybody else."""

    def strike(scene: Scene, rng: random.Random) -> None:
        with scene.watcher.outage():
            if not scene.machine.database.freeze(rng.uniform(low, high)):
                raise Missed("SQLite has no server")
            scene.machine.rows("SELECT 1")

    return strike


# Somebody at the console


def _hold_up(action: str, state: str, *ways_on: str) -> Fault:
    """Ask the job to stop; later let it go on, in the first of these ways that is not refused."""

    def strike(scene: Scene, rng: random.Random) -> Undo:
        if refused := scene.machine.control(action, scene.job, scene.wait):
            raise Missed(refused)
        return Undo(rng.uniform(0, 6), lambda: _go_on(scene, state, ways_on))

    return strike


def _go_on(scene: Scene, state: str, ways_on: tuple[str, ...]) -> None:
    if not scene.wait(lambda: scene.machine.status_of(scene.job) in {state, *FINISHED}, HELD_UP_SECONDS):
        raise RuntimeError(f"the job is {scene.machine.status_of(scene.job)} after {HELD_UP_SECONDS} s, not {state}")
    if scene.machine.status_of(scene.job) != state:
        return
    refused = ""
    with scene.watcher.setback():  # failed tracks that are tried again count as left
        for action in ways_on:
            if not (refused := scene.machine.control(action, scene.job, scene.wait)):
                return
    raise RuntimeError(f"the job could not go on: {refused}")


SHARED = ("share answers with errors", "share answers nothing", "share answers nothing for long")

KINDS: dict[str, Kind] = {
    "kill worker": Kind(_kill("worker", part=False), 2),
    "kill busy child of worker": Kind(kill_busy_worker, 2),
    "kill any child of worker": Kind(_kill("worker", part=True), 2),
    "kill light worker": Kind(_kill("light"), 1),
    "kill embedder": Kind(_kill("embedder"), 3, ("embedder",)),
    "kill decoder": Kind(_kill("decoder"), 1, ("decoder",)),
    "kill Milvus": Kind(_kill("milvus_lite"), 3),
    "kill web": Kind(_kill("web"), 2),
    "kill supervisor": Kind(kill_supervisor, 1, ("reboot",)),
    "reboot": Kind(reboot, 2, ("reboot",)),
    "freeze worker": Kind(_freeze("worker", 3, 10), 1),
    "freeze embedder": Kind(_freeze("embedder", 3, 10), 1),
    "freeze Milvus": Kind(_freeze("milvus_lite", 3, 10), 2),
    "freeze embedder for long": Kind(_freeze("embedder", 33, 40), 0.3, ("slow", "embedder")),
    "freeze worker for long": Kind(_freeze("worker", 50, 60), 0.3, ("slow",)),
    "freeze Milvus for long": Kind(_freeze("milvus_lite", 62, 70), 0.3, ("slow",)),
    "lock database": Kind(_lock_database(2, 8), 2),
    "lock database for long": Kind(_lock_database(33, 40), 0.3, ("slow",)),
    "fill disk": Kind(fill_disk, 1.5, ("disk",)),
    "freeze database": Kind(_freeze_database(3, 10), 1),
    "freeze database for long": Kind(_freeze_database(70, 80), 0.3, ("slow",)),
    "hide file": Kind(hide_file, 1),
    "move music away": Kind(move_music_away, 1),
    "move part away": Kind(move_part_away, 1),
    "share answers with errors": Kind(_answer_with_errors, 1),
    "share answers nothing": Kind(_answer_nothing(5, 15), 1),
    "share answers nothing for long": Kind(_answer_nothing(40, 60), 0.3, ("slow",)),
    "clock back": Kind(set_clock_back, 1, ("clock",)),
    "replace file": Kind(replace_file, 1),
    "remove track": Kind(remove_track, 1),
    "add track": Kind(add_track, 1),
    "edit tags": Kind(edit_tags, 1),
    "new id": Kind(give_new_id, 1),
    "pause and resume": Kind(_hold_up("pause", "paused", "resume"), 1.5),
    "cancel and resume": Kind(_hold_up("cancel", "cancelled", "resume"), 1),
    "cancel and retry": Kind(_hold_up("cancel", "cancelled", "retry-failed", "resume"), 1),
}
