"""``manage.py stop``: stops what `serve` started."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from navembed_site.instance import command, supervisor
from navembed_site.process.locks import holders


class Command(command.Command):
    help = "Stops all processes of `serve` and waits until they are gone."
    requires_migrations_checks = False
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        if not supervisor.is_running():
            self.stdout.write("serve does not run.")
            return
        if not supervisor.end():
            left = ", ".join(map(str, sorted(holders(supervisor.LOCK))))
            raise CommandError(
                f"Killed, but not gone: {left}. Such a process waits for a disk or share that does not answer."
            )
        self.stdout.write("Stopped.")
