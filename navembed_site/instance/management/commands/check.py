"""``manage.py check``: Django's, which imports every package, looks into the library, and asks Milvus."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.management.commands import check

from embeddings.checks import check_database_usable, check_library, check_milvus, require_installation


class Command(check.Command):
    help = "Says what is wrong with the packages, the settings, and what they name, without starting anything."

    def handle(self, *app_labels: Any, **options: Any) -> None:
        if not (app_labels or options["tags"] or options["list_tags"]):
            require_installation()
        checks.register(check_library)
        checks.register(check_milvus)
        checks.register(check_database_usable)
        super().handle(*app_labels, **options)
