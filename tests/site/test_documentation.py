"""What the operator's documents must name."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.core.management import call_command


def test_configuration_explains_exactly_the_variables_that_are_read() -> None:
    text = (settings.BASE_DIR / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE))
    assert documented == settings.KNOWN_VARIABLES


@pytest.mark.django_db
def test_migrations_are_complete() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
