"""``manage.py status``: the processes of this instance."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error as DatabaseError

from batches.selectors.hosts import host_text, hosts
from navembed_site.database.health import look, noted
from navembed_site.database.time_limit import time_limit
from navembed_site.instance import command, supervisor

ANSWER_SECONDS = 3.0  # of the database


class Command(command.Command):
    help = "Shows the processes that `serve` runs; exit status 0 only when all of them run."
    requires_migrations_checks = False
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *, as_json: bool, **options: Any) -> None:
        problems = []
        try:
            states = supervisor.states()
        except supervisor.NoAnswer as error:
            states = supervisor.states_by_locks()
            problems.append(str(error))
        if states and (trouble := look() or noted()):
            problems.append(str(trouble))
        known = _hosts() if states and not problems else []
        all_run = bool(states) and not problems and all(state.state == "RUNNING" for state in states)
        if as_json:
            report = {"running": all_run, "processes": [state.as_dict() for state in states], "hosts": known}
            self.stdout.write(json.dumps(report | ({"problems": problems} if problems else {}), cls=DjangoJSONEncoder))
        elif not states and not problems:
            self.stdout.write("serve does not run.")
        else:
            for state in states:
                uptime = timedelta(seconds=state.uptime)
                self.stdout.write(f"{state.name:<14}{state.state:<10}{state.pid or '-':>8}  {uptime}")
            for host in known:
                self.stdout.write(host_text(host))
            for problem in problems:
                self.stdout.write(problem)
        sys.exit(0 if all_run else 1)


def _hosts() -> list[dict[str, Any]]:
    """Return the machines that work for this instance; none while the database cannot say."""
    with suppress(DatabaseError), time_limit(ANSWER_SECONDS):
        return hosts()
    return []
