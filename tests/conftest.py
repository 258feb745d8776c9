"""What all tests share. The environment is made in tests/settings.py, before Django reads its settings."""

from __future__ import annotations

import gc
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.core.management.color import Style
from django.core.management.commands import flush
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.settings import SERVER_URL

# A machine that is busy with other things fails no test.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

# A shell lets what it runs in the background ignore Ctrl-C, and processes that tests start would inherit it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage in what thousands of tests are made of, neither now nor while they run."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Do not import on PostgreSQL what has no test that runs there: each process would do so."""
    is_test = SERVER_URL and collection_path.match("test_*.py")
    return (is_test and "mark.database" not in collection_path.read_text()) or None


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Add no worker's number to the database's name, as pytest-django would: each worker has an instance already."""


@pytest.fixture(autouse=True, scope="session")
def what_migrate_makes_stays() -> Iterator[None]:
    """Empty only the other tables after a test that commits: Django would make permissions and roles anew each time."""
    made = {"django_content_type", "auth_permission", "auth_group", "auth_group_permissions"}

    def sql_flush(style: Style, connection: BaseDatabaseWrapper, **options: bool) -> list[str]:
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        return connection.ops.sql_flush(style, [table for table in tables if table not in made], **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *_: None)
        yield


@pytest.fixture(autouse=True)
def fresh_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forgets answers that are remembered for a moment, so that no test is told another one's."""
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
