"""``manage.py stop``: stops what `serve` started."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from navembed_site import commands, supervision
from navembed_site.locks import holders


class Command(commands.Command):
    help = "Stops all processes of `serve` and waits until they are gone."
    requires_migrations_checks = False
    requires_system_checks = []

    def handle(self, **options: Any) -> None:
        if not supervision.is_running():
            self.stdout.write("serve does not run.")
            return
        if not supervision.end():
            left = ", ".join(map(str, sorted(holders(supervision.LOCK))))
            raise CommandError(
                f"Killed, but not gone: {left}. Such a process waits for a disk or share that does not answer."
            )
        self.stdout.write("Stopped.")
