"""A reader of folders that does to itself what files and shares do to it."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from embeddings.library import reader

Wrap = Callable[..., None]


@pytest.fixture
def wrap(monkeypatch: pytest.MonkeyPatch) -> Wrap:
    """Let the process run a line of Python before the tags of each ``path`` are read, and one at its start."""

    def wrap(line: str, first: str = "") -> None:
        script = f"""
import os, signal, sys, time
from embeddings.library import reader_process
read = reader_process._tags
def tags(path):
    {line}
    return read(path)
reader_process._tags = tags
{first}
reader_process.main()
"""
        monkeypatch.setattr(reader, "COMMAND", [sys.executable, "-c", script])

    return wrap
