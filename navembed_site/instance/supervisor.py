"""supervisor: its configuration from our table of programs, and the questions we ask it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from navembed_site.errors import NavembedError
from navembed_site.http import sockets
from navembed_site.instance.programs import LOG_BYTES, Program, programs
from navembed_site.process.locks import PROC, holder, holders, is_held, kill_holders
from navembed_site.process.slow_calls import wait_for

LOCK = "serve"
"""Held by `serve`, by supervisor, which it becomes, and by all that supervisor starts."""
USER = "navembed"
ANSWER_SECONDS = 3.0
ORDERLY_SECONDS = 12  # a round of supervisor more than the `stop_seconds` of both of its groups
KILL_SECONDS = 3
LOG_BACKUPS = 5
START_SECONDS = 2  # a program that lives this long has started; the pause before a restart begins anew


@dataclass(frozen=True)
class ProcessState:
    """A supervised process. ``state`` is supervisor's word, ``uptime`` in whole seconds."""

    name: str
    state: str
    pid: int | None
    uptime: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class NoAnswer(NavembedError):
    """Supervisor is frozen, or was ended, or the file of its socket was deleted."""


def control_socket() -> Path:
    return Path(settings.NAVEMBED_HOME) / "serve.sock"


def is_running() -> bool:
    """Whether a `serve` of this instance, or something that one has started, lives."""
    return is_held(LOCK)


def supervisor_pid() -> int | None:
    """Process id of supervisor, found by the lock that `serve` leaves to it, which nobody can delete."""
    if not PROC.exists():
        return _pid_of_file()
    return next((pid for pid in holders(LOCK) if b"supervisor.supervisord" in _command_of(pid)), None)


def states() -> list[ProcessState]:
    """Return the supervised processes; none when `serve` does not run. Raises NoAnswer."""
    if not is_running():
        return []
    try:
        found = _control().getAllProcessInfo()
    except (OSError, http.client.HTTPException, xmlrpc.client.Error) as error:
        raise NoAnswer(
            f"The process manager (process {supervisor_pid() or 'unknown'}) does not answer: it is frozen, or its "
            "socket was deleted. Its processes work, but nobody starts them again. "
            "`manage.py stop`, then `manage.py serve` makes all new."
        ) from error
    return [
        ProcessState(
            name=info["name"],
            state=info["statename"],
            pid=info["pid"] or None,
            uptime=max(0, info["now"] - info["start"]) if info["pid"] else 0,
        )
        for info in found
    ]


def states_by_locks() -> list[ProcessState]:
    """Return the programs that run, without supervisor's help: those that hold their program's lock."""
    states = []
    for name in programs():
        if pids := holders(name) & holders(LOCK):
            took_it = holder(name)
            pid = took_it if took_it in pids else min(pids)
            states.append(ProcessState(name=name, state="RUNNING", pid=pid, uptime=_uptime(pid)))
    return states


def end() -> bool:
    """End what `serve` has started: in order, and with force what has not ended by then, be it supervisor itself.

    Returns whether nothing is left.
    """
    if pid := supervisor_pid():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)  # a stopped one does what it was told
            wait_for(lambda: not is_running(), ORDERLY_SECONDS)
    kill_holders(LOCK)
    return wait_for(lambda: not is_running(), KILL_SECONDS)


def command(*, foreground: bool) -> list[str]:
    """The command line that becomes the process manager."""
    options = ["--nodaemon"] if foreground else []
    return [sys.executable, "-m", "supervisor.supervisord", "-c", str(_config_path()), *options]


def write_config(chosen: Iterable[Program]) -> Path:
    """Write supervisor's configuration, readable by its owner alone, and return its path."""
    path = _config_path()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(configuration(list(chosen)))
    return path


def configuration(chosen: list[Program]) -> str:
    """Return supervisor's configuration for the ``chosen`` programs."""
    run, log = Path(settings.PID_DIR), Path(settings.LOG_DIR)
    sections: dict[str, dict[str, Any]] = {
        # Only its owner may open the socket; without a password supervisor would still call that critical.
        "unix_http_server": {"file": control_socket(), "chmod": "0600", "username": USER, "password": _password()},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisord": {
            "logfile": log / "supervisord.log",
            "logfile_maxbytes": LOG_BYTES,
            "logfile_backups": LOG_BACKUPS,
            "pidfile": run / "supervisord.pid",
            "childlogdir": log,
            "umask": "077",
            "minfds": sockets.KEPT_FROM,
        },
    }
    if os.geteuid() == 0:
        sections["supervisord"]["user"] = "root"  # said by name, supervisor does not warn about it
    for program in chosen:
        sections[f"program:{program.name}"] = _program_section(program)
    # Groups stop one after another, the last first; the members of one stop together.
    for number, (group, last) in enumerate((("services", True), ("users", False))):
        members = [program.name for program in chosen if program.stops_last is last]
        if members:
            sections[f"group:{group}"] = {"programs": ",".join(members), "priority": number}
    return "\n".join(_render(name, values) for name, values in sections.items())


def _program_section(program: Program) -> dict[str, Any]:
    return {
        "command": " ".join(_quote(part) for part in program.command),
        "autorestart": "true",
        "startsecs": START_SECONDS,
        "startretries": 10**9,
        "stopsignal": "TERM",
        "stopwaitsecs": program.stop_seconds,
        # TERM to the main process alone: it ends its children in order. KILL takes all of them.
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": program.log,
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_BACKUPS,
    }


def _render(section: str, values: dict[str, Any]) -> str:
    lines = (f"{key} = {str(value).replace('%', '%%')}" for key, value in values.items())
    return "\n".join([f"[{section}]", *lines, ""])


def _quote(part: str) -> str:
    """Quote for supervisor, which splits like a shell; `` ;`` would begin a comment."""
    return '"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _command_of(pid: int) -> bytes:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _pid_of_file() -> int | None:
    try:
        return int((Path(settings.PID_DIR) / "supervisord.pid").read_text()) if is_running() else None
    except (OSError, ValueError):
        return None


def _uptime(pid: int) -> int:
    try:
        began = int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])  # ticks since the boot
    except OSError:
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK"))


def _password() -> str:
    return salted_hmac("navembed_site.instance.supervisor", USER).hexdigest()


def _config_path() -> Path:
    return Path(settings.PID_DIR) / "supervisord.conf"


def _control() -> Any:
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(USER, _password(), serverurl=f"unix://{control_socket()}")
    transport._get_connection = lambda: _ToSupervisor("localhost")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor


class _ToSupervisor(http.client.HTTPConnection):
    """A frozen supervisor accepts, and says nothing."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_SECONDS)
        self.sock.connect(str(control_socket()))
