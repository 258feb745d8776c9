"""Takes the instance from its database to another one: from SQLite to PostgreSQL, or back.

1. The target gets a mark: while it stands, nothing but a move works with it.
2. Its tables are made, and emptied of what a former try left there.
3. All rows are copied with their keys, parents before children, as they are at one moment.
4. They are read back, and each table is compared.
5. The source is marked as moved: nothing works with it any more. Then the mark of the target goes.

A kill at any moment leaves at most one of the two in use, and all rows in the source. Run again, it begins anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from graphlib import TopologicalSorter
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models.functions import Length

from navembed_site import environment
from navembed_site.errors import NavembedError
from navembed_site.instance.backup.operations import alone, holds_rows

MARK = "navembed_move"
"""A table of its own, for it must be there before all others, and in no migration."""
SOURCE = DEFAULT_DB_ALIAS
TARGET = "target"
LEFT_BEHIND = ("django_q.task",)  # a log of messages that have ended, pickled
ROWS_A_PAGE = 2000
VECTORS_A_PAGE = 64  # 20 MB of MERT's
ROW_BYTES = 300  # about what a row takes beside its vector
Model = type[models.Model]
Row = tuple[Any, ...]
Tell = Callable[[int, int, str], None]
"""Told bytes that are done, bytes in all, and what is being done."""


class MoveError(NavembedError):
    """The instance was not moved, or is not where it is looked for; no row of it is lost."""


@dataclass(frozen=True)
class Moved:
    """``rows`` in all tables; where they were and are; ``url``: what names the new place, without the password."""

    rows: int
    source: str
    target: str
    url: str


def move(url: str, tell: Tell) -> Moved:
    """Take the instance to the database at ``url``; its processes must be stopped. Raises MoveError, BackupError."""
    with alone(), _connected(url):
        arrival, departure = _sentences()
        _require_a_way(arrival, departure)
        with transaction.atomic(using=TARGET):
            _set_mark(TARGET, "target", arrival)
        call_command("migrate", database=TARGET, interactive=False, verbosity=0)
        with transaction.atomic():
            _see_one_moment()
            rows = _copy_and_compare(tell)
            _set_mark(SOURCE, "source", departure)
        with connections[TARGET].cursor() as cursor:
            cursor.execute("DROP TABLE navembed_move")
        return Moved(rows, place(SOURCE), place(TARGET), _shown(url))


def require_not_moved() -> None:
    """Raise MoveError when the instance's database is one that it was moved from, or is just being moved to."""
    role, sentence = _mark(SOURCE)
    if role == "source":
        raise MoveError(f"{sentence} Set DATABASE_URL to the new one.")
    if role == "target":
        raise MoveError(
            f"{sentence} Set DATABASE_URL to the former one and run `manage.py move_database` again, or go on there."
        )


def is_moved() -> bool:
    """Whether the instance was moved away from its database."""
    return _mark(SOURCE)[0] == "source"


def place(alias: str) -> str:
    """Where a database is, in words."""
    given = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return str(given["NAME"])
    return f"PostgreSQL's {given['NAME']} on {given['HOST'] or 'this machine'}"


@contextmanager
def _connected(url: str) -> Iterator[None]:
    """Connects TARGET to the database at ``url``."""
    try:
        given = environment.database(url)
    except ValueError:
        given = {"ENGINE": ""}
    if given["ENGINE"].rpartition(".")[2] not in {"sqlite3", "postgresql"} or not given["NAME"]:
        raise MoveError(f"The database that you named is not usable; it must be {environment.DATABASE_WANTED}.")
    connections.databases[TARGET] = connections.configure_settings({SOURCE: {}, TARGET: given})[TARGET]
    try:
        yield
    finally:
        connections[TARGET].close()
        del connections[TARGET], connections.databases[TARGET]


def _sentences() -> tuple[str, str]:
    """What the marks of this move say, in the target and in the source."""
    way = f"from {place(SOURCE)} to {place(TARGET)}"
    return f"A move {way} has not come to its end.", f"This instance was moved {way}."


def _require_a_way(arrival: str, departure: str) -> None:
    """Raise MoveError unless the target is empty, or holds what a former try of this very move has left."""
    if _mark(TARGET)[1] == arrival and _mark(SOURCE)[1] in ("", departure):
        return
    require_not_moved()
    if _identity(SOURCE) == _identity(TARGET):
        raise MoveError(f"The instance uses {place(TARGET)} already.")
    if _mark(TARGET)[1] or holds_rows(connections[TARGET]):
        raise MoveError(f"{place(TARGET)} holds something already. Name an empty database.")


def _identity(alias: str) -> tuple[str, ...]:
    given = connections[alias].settings_dict
    name = str(Path(given["NAME"]).resolve()) if connections[alias].vendor == "sqlite" else str(given["NAME"])
    return connections[alias].vendor, name, str(given["HOST"]), str(given["PORT"])


def _shown(url: str) -> str:
    """Return what DATABASE_URL is to be, with … in place of passwords."""
    if connections[TARGET].vendor == "sqlite":
        return f"sqlite:///{Path(connections[TARGET].settings_dict['NAME']).resolve()}"
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    named, colon, _ = user.partition(":")
    options = re.sub(r"([^&=]*pass[^&=]*=)[^&]*", r"\1…", parts.query)
    return parts._replace(netloc=f"{named}{colon and ':…'}{at}{host}", query=options).geturl()


def _mark(alias: str) -> tuple[str, str]:
    """Return what a database is to a move, "source" or "target", and a sentence; both empty without one."""
    with connections[alias].cursor() as cursor:
        if MARK not in connections[alias].introspection.table_names(cursor):
            return "", ""
        cursor.execute("SELECT role, sentence FROM navembed_move")
        role, sentence = cursor.fetchone()
        return role, sentence


def _set_mark(alias: str, role: str, sentence: str) -> None:
    """Part of the surrounding transaction."""
    with connections[alias].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS navembed_move")
        cursor.execute("CREATE TABLE navembed_move (role varchar(6) NOT NULL, sentence text NOT NULL)")
        cursor.execute("INSERT INTO navembed_move VALUES (%s, %s)", [role, sentence])


def _see_one_moment() -> None:
    """Makes the source's transaction read one state of it. SQLite's has kept all others from writing since it began."""
    if connections[SOURCE].vendor == "postgresql":
        with connections[SOURCE].cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def _copy_and_compare(tell: Tell) -> int:
    """Copy all tables and read them back; returns the rows. Raises MoveError when one is not what it was."""
    tables = _tables()
    _empty(tables)
    total, done, copied = 2 * sum(map(_bytes_of, tables)), 0, {}

    def passing(pages: Iterable[list[Row]], doing: str) -> Iterator[list[Row]]:
        nonlocal done
        for page in pages:
            yield page
            done += sum(map(_row_bytes, page))
            tell(min(done, total), total, doing)

    for table in tables:
        copied[table] = _copy(table, partial(passing, doing=f"copying {table._meta.verbose_name_plural}"))
    for table in tables:
        with transaction.atomic(using=TARGET):  # else PostgreSQL would make a file of all rows first
            pages = passing(_pages(TARGET, table), f"comparing {table._meta.verbose_name_plural}")
            if _checksum(table, pages) != copied[table]:
                raise MoveError(f"The table {table._meta.db_table} is not the same in {place(TARGET)}.")
    _set_sequences(tables)
    return sum(rows for rows, _ in copied.values())


def _tables() -> list[Model]:
    """All tables with rows to be moved, those that others refer to first.

    Messages and schedules of Django-Q are among them, as the instance is the same one: what was to be done is still to
    be done, and a message that wakes a device twice does no harm.
    """
    everything = apps.get_models(include_auto_created=True)
    found = [model for model in everything if not model._meta.proxy and model._meta.label_lower not in LEFT_BEHIND]
    parents = {
        model: {field.related_model for field in model._meta.local_concrete_fields if field.related_model} - {model}
        for model in found
    }
    return [model for model in TopologicalSorter(parents).static_order() if model in found]


def _empty(tables: list[Model]) -> None:
    """Making the tables has filled some of them, with keys of their own."""
    operations = connections[TARGET].ops
    operations.execute_sql_flush(operations.sql_flush(no_style(), [table._meta.db_table for table in tables]))


def _copy(table: Model, passing: Callable[[Iterable[list[Row]]], Iterator[list[Row]]]) -> tuple[int, int]:
    """Copy one table; returns its checksum."""

    def written() -> Iterator[list[Row]]:
        for page in _pages(SOURCE, table):
            _write(table, page)
            yield page

    return _checksum(table, passing(written()))


def _pages(alias: str, table: Model) -> Iterator[list[Row]]:
    """Yield all rows in pages, so that memory does not depend on their number."""
    size = VECTORS_A_PAGE if _binary(table) else ROWS_A_PAGE
    columns = [field.attname for field in table._meta.local_concrete_fields]
    rows = table._base_manager.using(alias).order_by().values_list(*columns).iterator(chunk_size=size)
    while page := list(islice(rows, size)):
        yield page


def _write(table: Model, page: list[Row]) -> None:
    """Write rows exactly as they are: a model's ``save`` would set times of its own."""
    target, fields = connections[TARGET], table._meta.local_concrete_fields
    name, columns = target.ops.quote_name(table._meta.db_table), [target.ops.quote_name(f.column or "") for f in fields]
    rows = [[field.get_db_prep_save(value, target) for field, value in zip(fields, row, strict=True)] for row in page]
    into = f"{name} ({', '.join(columns)})"
    with transaction.atomic(using=TARGET), target.cursor() as cursor, target.wrap_database_errors:
        if target.vendor == "postgresql":
            cursor.execute(f"SELECT {', '.join(columns)} FROM {name} LIMIT 0")  # noqa: S608
            types = [column.type_code for column in cursor.description or ()]  # Django's may be others than the table's
            with cursor.copy(f"COPY {into} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(types)
                for row in rows:
                    copy.write_row(row)
        else:
            cursor.executemany(f"INSERT INTO {into} VALUES ({', '.join(['%s'] * len(columns))})", rows)  # noqa: S608


def _set_sequences(tables: list[Model]) -> None:
    """Sets PostgreSQL's sequences after the copied keys, and gathers its statistics; SQLite needs neither."""
    with connections[TARGET].cursor() as cursor:
        for statement in connections[TARGET].ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)
        if connections[TARGET].vendor == "postgresql":
            cursor.execute("ANALYZE")


def _checksum(table: Model, pages: Iterable[list[Row]]) -> tuple[int, int]:
    """Return the number of rows and the sum of their hashes, which does not depend on their order."""
    is_json = [isinstance(field, models.JSONField) for field in table._meta.local_concrete_fields]
    count = total = 0
    for page in pages:
        for row in page:
            digest = hashlib.blake2b(digest_size=16)
            for value, json_too in zip(row, is_json, strict=True):
                raw = _plain_json(value) if json_too else _plain(value)
                digest.update(len(raw).to_bytes(8))
                digest.update(raw)
            count, total = count + 1, (total + int.from_bytes(digest.digest())) % 2**128
    return count, total


def _plain(value: Any) -> bytes:
    """Return a value in a form that is the same from either database."""
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    if isinstance(value, datetime):
        return value.isoformat().encode()
    return repr(value + 0.0 if isinstance(value, float) else value).encode()  # SQLite knows no -0.0


def _plain_json(value: Any) -> bytes:
    """PostgreSQL keeps neither the order of names nor how a number was written."""

    def number(text: str) -> float:
        return float(text) + 0.0

    read = json.loads(json.dumps(value), parse_int=number, parse_float=number)
    return json.dumps(read, sort_keys=True).encode()


def _binary(table: Model) -> list[str]:
    return [field.name for field in table._meta.local_concrete_fields if isinstance(field, models.BinaryField)]


def _bytes_of(table: Model) -> int:
    """About what is to be read of a table; no vector is read for it."""
    rows = table._base_manager.order_by()
    vectors = sum(rows.aggregate(bytes=models.Sum(Length(name)))["bytes"] or 0 for name in _binary(table))
    return rows.count() * ROW_BYTES + vectors


def _row_bytes(row: Row) -> int:
    return ROW_BYTES + sum(len(value) for value in row if isinstance(value, bytes | memoryview))
