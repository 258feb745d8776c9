"""Requests that nobody would think of, made from our own OpenAPI document, get the answers that it promises.

Real parts stand behind it: the application, a database with a job, the embedder over tiny models, Milvus Lite.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, settings
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from embeddings.models import Track
from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from tests.api.test_search import library, lite_server, milvus, music, pool
from tests.batches.conftest import Music
from tests.batches.rows import make_job

__all__ = ["library", "lite_server", "milvus", "music", "pool"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
bounds = partial(settings, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))

document = json.loads(json.dumps(SchemaGenerator().get_schema(public=True), default=str))
schema = schemathesis.openapi.from_dict(document)
schema.app = get_wsgi_application()  # not our own wsgi.py, which warms up what tests start themselves
KNOWN = {"id": "1", "job_id": "1", "key": "muq"}
REFUSALS = [positive_data_acceptance, negative_data_rejection]
"""Not looked at: a cursor is any string to the document, and numbers are taken for texts."""
locked: set[str] = set()
"""Operations that were asked again without the token, and with a wrong one; once is enough."""


@schema.hook
def map_path_parameters(_: HookContext, given: dict[str, Any] | None) -> dict[str, Any] | None:
    """Ask in half of the requests for something that exists."""
    return given and {name: KNOWN.get(name, value) if len(str(value)) % 2 else value for name, value in given.items()}


@pytest.fixture(autouse=True)
def open_transaction() -> Iterator[None]:
    """Requests do not close the connection of the test, as Django's own test client sees to."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(autouse=True, scope="module")
def open_files() -> Iterator[None]:
    """werkzeug's test client does not close the files in which it sends large forms."""
    yield
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()


@pytest.fixture
def token(library: Music, settings: Any) -> Token:
    """For an instance with a job of which a track has failed."""
    settings.RATE_LIMIT = 0
    job = make_job(Track.objects.all())
    job.results.filter(track="track1").update(status="failed", error_class="AudioError")
    return create_token("schemathesis", Scope.ADMIN, created_by="tests")


@schema.parametrize()
@bounds(max_examples=int(os.environ.get("NAVEMBED_TEST_EXAMPLES", "3")))
def test_answers_are_as_documented(case: Case, token: Token) -> None:
    name = case.operation.label
    answer = case.call_and_validate(
        headers={"Authorization": f"Bearer {token.secret}"},
        excluded_checks=[*REFUSALS, ignored_auth] if name in locked else REFUSALS,
    )
    if answer.status_code < 300 and case.meta and case.meta.generation.mode is GenerationMode.POSITIVE:
        locked.add(name)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_answers_are_as_documented_for_ten_minutes() -> None:
    """In a process of its own: to make another test of each operation would keep every process that tests busy."""
    again = [sys.executable, "-m", "pytest", __file__, "-p", "no:cacheprovider"]
    subprocess.run(again, env=os.environ | {"NAVEMBED_TEST_EXAMPLES": "700"}, check=True)
