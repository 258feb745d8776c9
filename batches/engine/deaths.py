"""Whether a chunk is to blame when the embedder stops answering in the middle of it.

Who was away itself blames nobody: an embedder gives up a caller that was frozen, or waited for a frozen database, and
somebody may have stopped the embedder for a while. So it counts as dead when another has taken its place.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from embeddings.embedder.client import AnswerCutOff, EmbedderClient, EmbedderSilent
from embeddings.errors import EmbedderDied
from navembed_site.errors import NavembedError

SUCCESSOR_SECONDS = 120.0  # what a supervisor may take to start an embedder on a machine under load
STOPPED_SECONDS = 300.0  # one that is stopped for longer is ended: it holds the device

Wait = Callable[[str, Callable[[], bool], float], bool]
"""Shows why the job waits, until something holds or so many seconds are over; returns whether it holds.

Raises what ends the whole judgement when the job is to stop.
"""


class EmbedderHung(EmbedderDied):
    """The embedder lives and does nothing."""


def is_chunks_fault(client: EmbedderClient, pid: int, death: EmbedderDied, wait: Wait) -> bool:
    """Return whether the work has ended the embedder, which was process ``pid``; end one that hangs.

    Where the supervisor went too (a reboot, an operator who ends everything), there is no successor, or this process
    ends before: then it was nobody's fault.
    """
    stopped = isinstance(death, EmbedderSilent) and client.is_stopped()
    if stopped:
        message = f"the embedder, process {pid}, has been stopped; waiting until it goes on"
        wait(message, lambda: not client.is_stopped(), STOPPED_SECONDS)
    if (stopped or isinstance(death, AnswerCutOff)) and _answers(client, pid):
        return False
    client.kill(pid)
    message = f"{death}; waiting for the embedder to be started again"
    return wait(message, lambda: _has_successor(client, pid), SUCCESSOR_SECONDS) and not stopped


def reason_of(death: EmbedderDied, *, out_of_memory: bool) -> str:
    """Return what is shown with the tracks of the chunk."""
    reason = str(death) if isinstance(death, EmbedderHung) else "killed the embedder"
    return reason + (": out of memory" if out_of_memory else "")


def out_of_memory_kills() -> int:
    """How often the kernel has killed a process for want of memory, where it says so (Linux)."""
    with suppress(OSError, ValueError):
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(fields.get("oom_kill", 0))
    return 0


def _answers(client: EmbedderClient, pid: int) -> bool:
    with suppress(NavembedError):
        return bool(client.status()["pid"] == pid)
    return False


def _has_successor(client: EmbedderClient, pid: int) -> bool:
    now = client.pid()
    if now == pid == 0:  # it may live in another container, where we see no process ids
        with suppress(NavembedError):
            return bool(client.status())
    return now not in (0, pid)
