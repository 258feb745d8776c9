"""What our sessions with PostgreSQL are set to."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from django.db import connections, transaction

from embeddings import apps
from navembed_site import environment
from navembed_site.instance import moving


def test_host_that_stands_still_in_a_transaction_loses_what_it_has_locked(
    home: object, postgres: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apps, "STILL_SECONDS", 1)
    url = postgres()
    given = environment.database(url)
    other = psycopg.connect(host=given["HOST"], user=given["USER"], dbname=given["NAME"], autocommit=True)
    other.execute("CREATE TABLE lease AS SELECT 1 AS holder")
    with moving._connected(url):
        transaction.set_autocommit(False, using=moving.TARGET)
        connections[moving.TARGET].cursor().execute("UPDATE lease SET holder = 2")
        other.execute("SET lock_timeout = '20s'; UPDATE lease SET holder = 3")
    assert other.execute("SELECT holder FROM lease").fetchone() == (3,)
    other.close()
