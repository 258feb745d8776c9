"""supervisor: its configuration from our table of programs, and the questions we ask it."""

from __future__ import annotations

import os
import sys
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.crypto import salted_hmac

from navembed_site import sockets
from navembed_site.processes import LOG_BYTES, Program, accepts

USER = "navembed"
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


def control_socket() -> Path:
    return Path(settings.PID_DIR) / "supervisor.sock"


def is_running() -> bool:
    """Whether a supervisor of this instance answers."""
    return accepts(control_socket())


def states() -> list[ProcessState]:
    """Return the supervised processes; none when `serve` does not run."""
    if not is_running():
        return []
    return [
        ProcessState(
            name=info["name"],
            state=info["statename"],
            pid=info["pid"] or None,
            uptime=max(0, info["now"] - info["start"]) if info["pid"] else 0,
        )
        for info in _control().getAllProcessInfo()
    ]


def shut_down() -> None:
    """Ask supervisor to stop every process and itself; returns at once."""
    _control().shutdown()


def supervisor_pid() -> int:
    return int(_control().getPID())


def wait_until_gone(pid: int, seconds: float) -> bool:
    """Wait until the process ``pid`` has ended; return whether it did within ``seconds``."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() if Path("/proc/self").exists() else is_running():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def command(*, foreground: bool) -> list[str]:
    """The command line that becomes the process manager."""
    options = ["--nodaemon"] if foreground else []
    return [sys.executable, "-m", "supervisor.supervisord", "-c", str(_config_path()), *options]


def write_config(programs: Iterable[Program]) -> Path:
    """Write supervisor's configuration, readable by its owner alone, and return its path."""
    path = _config_path()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(configuration(list(programs)))
    return path


def configuration(programs: list[Program]) -> str:
    """Return supervisor's configuration for ``programs``."""
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
    for program in programs:
        sections[f"program:{program.name}"] = _program_section(program)
    # Groups stop one after another, the last first; the members of one stop together.
    for number, (group, last) in enumerate((("services", True), ("users", False))):
        members = [program.name for program in programs if program.stops_last is last]
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


def _password() -> str:
    return salted_hmac("navembed_site.supervision", USER).hexdigest()


def _config_path() -> Path:
    return Path(settings.PID_DIR) / "supervisord.conf"


def _control() -> Any:
    from supervisor.xmlrpc import SupervisorTransport

    transport = SupervisorTransport(USER, _password(), serverurl=f"unix://{control_socket()}")
    return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor
