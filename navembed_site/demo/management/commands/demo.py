"""Show the whole system on a synthetic library: `make demo`."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError, CommandParser
from rich.console import Console

from embeddings.checks import require_installation
from navembed_site.demo import show
from navembed_site.demo.library import make_demo_library
from navembed_site.demo.upload import show_upload
from navembed_site.http import sockets
from navembed_site.instance import command, supervisor

USER = "demo"


class Command(command.Command):
    help = "Make a synthetic library, serve it, embed it with all models, and show what came out."
    requires_migrations_checks = False
    requires_system_checks = []  # it makes what the checks ask for

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--exit", action="store_true", help="Stop after the summary; exit code 0 if all held.")

    def handle(self, *args: Any, **options: Any) -> None:
        require_installation()
        console = Console()
        began = time.monotonic()
        folder = settings.NAVEMBED_HOME / "library"
        _require_own_home(folder)
        if supervisor.is_running():
            call_command("stop", stdout=self.stdout)
        _say(console, "Making a synthetic library and tiny checkpoints")
        _manage("make_demo_library", str(folder), "--verbosity", "0")
        library = make_demo_library(folder)
        port = _write_env(library.database, folder / "checkpoints")
        settings.NAVIDROME_DB_PATH = library.database  # for what this process itself asks; it has read them before
        _manage("migrate", "--verbosity", "0")
        password = _make_user()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # which stops what is started now
        _say(console, "Starting all processes")
        _manage("serve", "--detach")
        try:
            address = f"http://127.0.0.1:{port}"
            _say(console, "Embedding, as the React panel does it")
            end = show.run_job(address, console)
            problems = show.judge(library, end)
            show.show_summary(library, console)
            problems += show.judge_texts(address, console)
            _say(console, "Uploading what is there already, with a stand-in for a language model that names it")
            problems += show_upload(library, console)
            _say(
                console,
                f"{'All held' if not problems else 'NOT EVERYTHING HELD'} after {time.monotonic() - began:.0f} s",
            )
            for problem in problems:
                console.print(f"  {problem}", highlight=False)
            if not options["exit"]:
                _serve_on(console, address, password)
        finally:
            call_command("stop", stdout=self.stdout)
        if problems:
            raise CommandError(f"{len(problems)} expectations did not hold; logs lie in {settings.LOG_DIR}")


def _require_own_home(folder: Path) -> None:
    """The demo writes settings, and embeds anew whatever they name: not those of somebody's own library."""
    settings_file = settings.NAVEMBED_HOME / "navembed.env"
    if settings_file.exists() and str(folder) not in settings_file.read_text(encoding="utf-8"):
        raise CommandError(f"{settings_file} is not the demo's. Give it a folder of its own: NAVEMBED_HOME=var/demo")


def _say(console: Console, text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _manage(*arguments: str) -> None:
    """Run another command in a process of its own: it reads the settings that the demo has just written."""
    if subprocess.run([sys.executable, str(settings.BASE_DIR / "manage.py"), *arguments], check=False).returncode:
        raise CommandError(f"`manage.py {' '.join(arguments)}` failed")


def _write_env(database: Path, checkpoints: Path) -> int:
    """Write the instance's settings; returns its port, another one where the usual one is taken."""
    port, text_port = (
        next(p for p in range(usual, usual + 2000, 10) if sockets.is_free(settings.BIND, p)) for usual in (9002, 9003)
    )
    values = {
        "NAVIDROME_DB_PATH": database,
        "NAVIDROME_RECOMMENDER_PORT": port,
        "TEXT_EMBEDDING_PORT": text_port,
        "NAVEMBED_UPLOAD_SOCKET": settings.NAVEMBED_HOME / "uploads.sock",
    } | {f"NAVEMBED_{path.name.upper()}": path for path in sorted(checkpoints.iterdir())}
    lines = [f"{name}={value}" for name, value in values.items()]
    (settings.NAVEMBED_HOME / "navembed.env").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return port


def _make_user() -> str:
    """Make the demo's user, or give it a new password; returns the password."""
    password = secrets.token_urlsafe(9)
    user, _ = User.objects.get_or_create(username=USER, defaults={"is_staff": True, "is_superuser": True})
    user.set_password(password)
    user.save()
    return password


def _serve_on(console: Console, address: str, password: str) -> None:
    console.print(f"\nConsole:  {address}/admin/   login [bold]{USER}[/bold], password [bold]{password}[/bold]")
    console.print(f"Progress: {address}/batch/progress")
    console.print("Ctrl-C stops everything.")
    try:
        while supervisor.is_running():
            time.sleep(1)
    except KeyboardInterrupt:
        console.print()
