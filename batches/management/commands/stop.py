"""``manage.py stop``: stops what `serve` started."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from navembed_site import commands, supervision

STOP_SECONDS = 60


class Command(commands.Command):
    help = "Stops all processes of `serve` and waits until they are gone."
    requires_migrations_checks = False
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        if not supervision.is_running():
            self.stdout.write("serve does not run.")
            return
        pid = supervision.supervisor_pid()
        supervision.shut_down()
        if not supervision.wait_until_gone(pid, STOP_SECONDS):
            raise CommandError(f"Process {pid} has not ended after {STOP_SECONDS} s.")
        self.stdout.write("Stopped.")
