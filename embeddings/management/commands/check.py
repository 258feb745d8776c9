"""Django's `check`, which also imports everything."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import check

from embeddings.checks import installation_problems, require


class Command(check.Command):
    help = "Check the settings, and that every package can be imported."

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if not (app_labels or options["tags"] or options["list_tags"]):
            require(installation_problems())
        super().handle(*app_labels, **options)
