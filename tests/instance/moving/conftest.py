"""An empty database of the other engine than the tests' own: PostgreSQL beside SQLite, SQLite beside PostgreSQL."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection
from pytest_django import DjangoDbBlocker

from navembed_site import environment
from navembed_site.instance import moving
from tests.instance.conftest import instance, migrated_database
from tests.postgres import server

__all__ = ["instance", "migrated_database"]

numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[..., str]]:
    """Makes a database on a server of its own, like another one perhaps; returns its address."""
    with server() as url:
        given = environment.database(url)
        where = {"host": given["HOST"], "user": given["USER"], "dbname": "postgres"}

        def make(template: str = "template1") -> str:
            name = f"moving{next(numbers)}"
            with psycopg.connect(autocommit=True, **where) as session:
                session.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
            return url.rpartition("/")[0] + f"/{name}"

        yield make


@pytest.fixture(scope="session")
def template(postgres: Callable[..., str], django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> str:
    """Name of a PostgreSQL database whose tables are made already, as that takes seconds."""
    url = postgres()
    with django_db_blocker.unblock(), moving._connected(url):
        call_command("migrate", database=moving.TARGET, verbosity=0)
    return url.rpartition("/")[2]


@pytest.fixture
def home(settings: Any, short_tmp: Path, transactional_db: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Path]:
    """A folder in which no process of the tests' instance is at home."""
    settings.NAVEMBED_HOME, settings.PID_DIR = short_tmp, short_tmp / "run"
    settings.EMBEDDER_SOCKET, settings.MILVUS_LITE_SOCKET = short_tmp / "embedder.sock", short_tmp / "milvus.sock"
    with django_db_blocker.unblock():  # Django lets a test have no databases but those of its settings
        yield short_tmp


@pytest.fixture
def make_target(home: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Makes a database of the other engine, with empty tables; returns its address."""
    if connection.vendor == "postgresql":
        empty = request.getfixturevalue("migrated_database")
        yield lambda: f"sqlite:///{shutil.copy(empty, home / f'moved{next(numbers)}.sqlite3')}"
    else:
        make, like = request.getfixturevalue("postgres"), request.getfixturevalue("template")
        yield lambda: make(like)
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS navembed_move")


@pytest.fixture
def target(make_target: Callable[[], str]) -> str:
    return make_target()
