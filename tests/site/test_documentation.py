"""What the operator's documents must name."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from django.core.management import call_command

OURS = re.compile(r"\b(?:NAVEMBED|NAVIDROME|TEXT_EMBEDDING|MILVUS|DATABASE)_[A-Z_]+\b")
OTHERS = {"NAVIDROME_IMAGE", "MILVUS_IMAGE", "NAVEMBED_TIMBRE"}
"""Variables of compose.yaml's own, and of the model that docs/add-a-model.md makes up."""


def test_configuration_explains_exactly_the_variables_that_are_read() -> None:
    text = (settings.BASE_DIR / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([A-Z_]+)`", text, re.MULTILINE))
    assert documented == settings.KNOWN_VARIABLES


def test_every_variable_that_documents_and_examples_name_is_read() -> None:
    files = [
        path
        for name in ("docs/*.md", "docs/examples/*", "*.md", "compose.yaml")
        for path in settings.BASE_DIR.glob(name)
    ]
    named = {(path.name, name) for path in files for name in OURS.findall(path.read_text(encoding="utf-8"))}
    assert {(file, name) for file, name in named if name not in settings.KNOWN_VARIABLES | OTHERS} == set()


@pytest.mark.django_db
def test_migrations_are_complete() -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
