"""What all tests share. The environment is made in tests/settings.py, before Django reads its settings."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# A machine that is busy with other things fails no test.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# A shell lets what it runs in the background ignore Ctrl-C, and processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = ("chaos", "hosts", "contract")
"""Folders whose tests take minutes: begun first, so that nobody waits for one of them alone at the end."""
TOGETHER = ("contract", "encoders", "instance/moving", "maps")
"""Folders that share what takes long to set up."""


class ByModule(LoadScopeScheduling):
    """Gives a process all tests of a module, or of a folder of ``TOGETHER``: most set something up that they share."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return next((folder for folder in TOGETHER if path.startswith(f"tests/{folder}/")), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByModule:
    return ByModule(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(tuple(f"tests/{folder}/" for folder in LONG)))


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
