"""``manage.py check``: Django's, which looks into the library as well."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.management.commands import check

from embeddings.checks import check_library


class Command(check.Command):
    """Says what is wrong with the settings, and with what they name, without starting anything."""

    def handle(self, *app_labels: Any, **options: Any) -> None:
        checks.register(check_library)
        super().handle(*app_labels, **options)
