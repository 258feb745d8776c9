"""``manage.py serve``: everything a single machine needs, in one process tree."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
from argparse import BooleanOptionalAction
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.db import connections
from django.urls import reverse

from embeddings.checks import require_library
from embeddings.library import has_library
from navembed_site.database.health import look
from navembed_site.http import sockets
from navembed_site.instance import command, first_user, supervisor
from navembed_site.instance.programs import Program, programs
from navembed_site.process.locks import Lock, hold, is_held
from navembed_site.process.slow_calls import wait_for

ANSWER_SECONDS = 120  # importing everything from a cold disk, on a busy machine
ENDING_SECONDS = 10  # for processes of a `serve` that was killed a moment ago


COMPUTING = {"worker", "embedder"}  # what a further host runs; another one reads the library


class Command(command.Command):
    help = "Starts all processes and restarts what dies. Ctrl-C, or `stop`, stops all of them."
    requires_migrations_checks = False  # see --migrate

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--only", type=_names, metavar="A,B", help="Start these programs alone.")
        parser.add_argument("--without", type=_names, metavar="C,D", help="Start all programs but these.")
        parser.add_argument("--detach", action="store_true", help="Return when the instance answers.")
        parser.add_argument(
            "--migrate", action=BooleanOptionalAction, default=True, help="Bring the database up to date."
        )

    def handle(
        self,
        *,
        only: list[str] | None,
        without: list[str] | None,
        detach: bool,
        migrate: bool,
        **options: Any,
    ) -> None:
        chosen = _choose(only, without or [])
        if has_library() or not COMPUTING.issuperset(program.kind for program in chosen):
            require_library()
        _make_folders()
        sockets.keep(_only_one())
        chosen = [_listening(program) for program in chosen]
        command.require_not_moved()
        if migrate:
            command.bring_up_to_date()
        if trouble := look():
            raise CommandError(str(trouble))
        self._announce(chosen)
        supervisor.write_config(chosen)
        connections.close_all()  # exec would leave SQLite's write-ahead log behind
        os.environ["NAVEMBED_HOME"] = str(settings.NAVEMBED_HOME)  # ./var means another folder elsewhere
        if not detach:
            self.stdout.write("Ctrl-C stops all of them.\n")
            self.stdout.flush()
            arguments = supervisor.command(foreground=True)
            os.execv(arguments[0], arguments)  # noqa: S606  (a fixed program of ours)
        self._detach(chosen)

    def _announce(self, chosen: list[Program]) -> None:
        names = {program.name for program in chosen}
        self.stdout.write(f"Instance: {settings.NAVEMBED_HOME}")
        if "web" in names:
            self.stdout.write(f"Console:  {_address(settings.PORT)}/admin/")
        if "text" in names:
            self.stdout.write(f"Texts:    {_address(settings.TEXT_PORT)}/embed_text")
        self.stdout.write(f"Programs: {', '.join(program.name for program in chosen)}")
        self.stdout.write(f"Logs:     {settings.LOG_DIR}")
        if "web" in names and (path := first_user.new_link()):
            self.stdout.write("")
            self.stdout.write("There is no user yet. Make the first one within an hour; the link works once:")
            self.stdout.write(f"  {_address(settings.PORT)}{path}")
        self.stdout.flush()

    def _detach(self, chosen: list[Program]) -> None:
        started = subprocess.run(
            supervisor.command(foreground=False), capture_output=True, text=True, check=False, close_fds=False
        )
        if started.returncode:
            raise CommandError(f"supervisor did not start: {started.stdout}{started.stderr}".strip())
        if "web" in {program.name for program in chosen} and not wait_for(_answers, ANSWER_SECONDS):
            raise CommandError(f"The web process does not answer; see {Path(settings.LOG_DIR) / 'web.log'}.")
        self.stdout.write("Runs in the background; `manage.py status` shows it, `manage.py stop` stops it.")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _choose(only: list[str] | None, without: list[str]) -> list[Program]:
    table = programs().values()
    kinds = dict.fromkeys(program.kind for program in table)
    unknown = sorted({*(only or ()), *without} - kinds.keys())
    if unknown:
        raise CommandError(f"No program is named {', '.join(unknown)}. There are: {', '.join(kinds)}.")
    chosen = [p for p in table if (only is None or p.kind in only) and p.kind not in without]
    if not chosen:
        raise CommandError("No program is left to start.")
    return chosen


def _make_folders() -> None:
    settings.NAVEMBED_HOME.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.NAVEMBED_HOME.chmod(0o700)
    for folder in (settings.LOG_DIR, settings.PID_DIR, settings.CACHE_DIR):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _only_one() -> Lock:
    """Return the lock of `serve`, waiting for what is left of one that was killed. Raises CommandError."""
    if supervisor.supervisor_pid() is None:
        wait_for(lambda: not supervisor.is_running(), ENDING_SECONDS)
    try:
        return hold(supervisor.LOCK, wait=False)
    except BlockingIOError:
        raise CommandError(f"serve runs already for {settings.NAVEMBED_HOME}; `manage.py stop` stops it.") from None


def _listening(program: Program) -> Program:
    """Return ``program`` with a listening socket, if it is one that answers HTTP. Raises CommandError."""
    ports = {
        "web": ("NAVIDROME_RECOMMENDER_PORT", settings.PORT),
        "text": ("TEXT_EMBEDDING_PORT", settings.TEXT_PORT),
    }
    if program.name not in ports:
        return program
    variable, port = ports[program.name]
    try:
        listener = _listen(port)
    except OSError as error:
        raise CommandError(
            f"Another program listens on {settings.BIND}:{port}, or this address is not ours; "
            f"set {variable} (or NAVEMBED_BIND) to a free one."
        ) from error
    with listener:
        return replace(program, arguments=(*program.arguments, "--socket", str(sockets.keep(listener))))


def _listen(port: int) -> socket.socket:
    try:
        return sockets.listen(settings.BIND, port)
    except OSError:
        wait_for(lambda: not any(is_held(name) for name in programs()), ENDING_SECONDS)
        return sockets.listen(settings.BIND, port)


def _address(port: int) -> str:
    host = _host()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _host() -> str:
    """A host by which this machine reaches what listens on NAVEMBED_BIND."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.BIND, settings.BIND)  # noqa: S104


def _answers() -> bool:
    """Whether the web process answers its health check."""
    connection = http.client.HTTPConnection(_host(), settings.PORT, timeout=2)
    try:
        connection.request("GET", reverse("healthz"), headers={"Host": "localhost"})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
