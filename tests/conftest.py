"""What all tests share. The environment is made in tests/settings.py, before Django reads its settings."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

# A machine that is busy with other things fails no test.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# A shell lets what it runs in the background ignore Ctrl-C, and processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Add no worker's number to the database's name, as pytest-django would: each worker has an instance already."""


@pytest.fixture(autouse=True)
def fresh_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test be told what another one has asked for a moment ago."""
    monkeypatch.setattr("batches.selectors.last_known.FRESH_SECONDS", 0.0)


@pytest.fixture(autouse=True)
def weights_to_be_had(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let a job start where no embedder runs; only tests of that question look for weights."""
    if "real_weights" not in request.keywords:
        monkeypatch.setattr("batches.services.problems_with", lambda models: {})


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A temporary folder whose path is short enough for unix sockets, which pytest's tmp_path may not be."""
    folder = Path(tempfile.mkdtemp(prefix="nt-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
