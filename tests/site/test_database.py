"""SQLite: connections that open beside a writer, and a file that can give its pages back."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from django.db import connection
from django.db.backends.sqlite3.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


def connect(path: Path, **options: object) -> DatabaseWrapper:
    """A new connection as Django makes it."""
    given = connection.settings_dict
    return DatabaseWrapper(given | {"NAME": str(path), "OPTIONS": given["OPTIONS"] | options}, "another")


def ask(path: Path, sql: str, **options: object) -> object:
    wrapper = connect(path, **options)
    with closing(wrapper), wrapper.cursor() as cursor:
        return cursor.execute(sql).fetchone()[0]


def test_connection_opens_while_another_writes(tmp_path: Path) -> None:
    path = tmp_path / "new.sqlite3"
    ask(path, "SELECT 1")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert ask(path, "SELECT 1", timeout=0) == 1


@pytest.mark.parametrize(("pragma", "value"), [("auto_vacuum", 2), ("journal_mode", "wal")])
def test_new_file_has_a_log_and_gives_pages_back(tmp_path: Path, pragma: str, value: object) -> None:
    path = tmp_path / "new.sqlite3"
    wrapper = connect(path)
    with closing(wrapper), wrapper.cursor() as cursor:
        cursor.execute("CREATE TABLE a (b)")
    assert ask(path, f"PRAGMA {pragma}") == value
