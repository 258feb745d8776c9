"""Moving to a database of the other engine: nothing is lost, and no instance lives twice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connections
from django.utils import timezone
from django_q.tasks import schedule

from batches.models import BatchJob, ModelProgress
from embeddings.models import Embedding, EmbeddingSpace, Track
from navembed_site.access.scopes import Scope
from navembed_site.access.tokens import create_token
from navembed_site.instance import command, moving
from navembed_site.instance.backup.operations import BackupError
from navembed_site.instance.moving import SOURCE, TARGET, MoveError, move
from navembed_site.process import locks
from tests.batches.rows import device, make_embedding, make_job, make_space, make_track, make_tracks

pytestmark = pytest.mark.database

YEAR = timezone.now() - timedelta(days=365)


@pytest.fixture
def library(transactional_db: None) -> None:
    """Something of everything, with what databases like to change."""
    anna = User.objects.create_user("anna", "a@example.org", "secret")
    anna.user_permissions.add(Permission.objects.get(codename="add_batchjob"))
    create_token("script", Scope.READ, created_by="anna")
    SessionStore().create()
    AccessAttempt.objects.create(username="bob", ip_address="2001:db8::1", failures_since_start=2)
    schedule("batches.tasks.send_webhook", "{}", 1, cluster="light", next_run=timezone.now())
    make_track("away", playable=False, title="Ærø \\ \N{NOTE}\t'", duration=0.1 + 0.2, size=2**53)
    tracks = [*make_tracks(5), make_track("deleted", playable=False)]
    space = make_space(calibration={"z": [1e-7, 1.0, 1e22, -0.0, None], "a": {"b": True}, "": "\\u0041"})
    for track in tracks:
        make_embedding(space, track, vector=np.random.default_rng(1).bytes(2000))
    Embedding.objects.update(updated_at=YEAR)
    device()
    make_job(tracks[:3])


def rows(alias: str) -> dict[str, list[tuple[Any, ...]]]:
    """All that is to be moved, as Python sees it."""
    found = {}
    for table in moving._tables():
        columns = [field.attname for field in table._meta.local_concrete_fields]
        values = table._base_manager.using(alias).values_list(*columns)
        shown = [tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in values]
        found[table._meta.db_table] = sorted(shown, key=lambda row: str(row[0]))
    return found


def quietly(*_: object) -> None:
    """Nobody looks on."""


def test_every_row_arrives_as_it_was(library: None, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "VECTORS_A_PAGE", 2)
    before = rows(SOURCE)
    moved = move(target, quietly)
    with moving._connected(target):
        assert rows(TARGET) == before == rows(SOURCE)
    assert moved.rows == sum(map(len, before.values()))
    assert not [table for table in ("django_q_ormq", "django_session", "access_token") if not before[table]]


def test_new_rows_come_after_the_old_ones(library: None, target: str) -> None:
    move(target, quietly)
    newest = BatchJob.objects.latest("id").pk, EmbeddingSpace.objects.latest("id").pk
    with moving._connected(target):
        job = BatchJob.objects.using(TARGET).create(model_keys=["muq"], status="queued")
        space = EmbeddingSpace.objects.using(TARGET).create(model="mert", dimension=1, recipe={}, status="live")
    assert (job.pk, space.pk) == (newest[0] + 1, newest[1] + 1)


def test_old_database_is_left(library: None, target: str) -> None:
    move(target, quietly)
    with moving._connected(target):
        assert moving._mark(TARGET) == ("", "")
    with pytest.raises(CommandError, match=r"was moved from .* to .* Set DATABASE_URL to the new one"):
        command.bring_up_to_date()


def test_instance_moves_to_one_place_only(library: None, make_target: Callable[[], str]) -> None:
    move(make_target(), quietly)
    with pytest.raises(MoveError, match="was moved"):
        move(make_target(), quietly)


def test_database_that_holds_something_is_left_alone(library: None, target: str) -> None:
    move(target, quietly)
    with connections[SOURCE].cursor() as cursor:
        cursor.execute("DROP TABLE navembed_move")
    with pytest.raises(MoveError, match="holds something already"):
        move(target, quietly)
    assert not moving.is_moved()


@pytest.mark.parametrize("program", ["worker", "light", "web"])
def test_nothing_moves_while_the_instance_runs(library: None, target: str, program: str) -> None:
    with locks.hold(program), pytest.raises(BackupError, match=rf"The instance runs \({program}\)"):
        move(target, quietly)


written = moving._write


def lose(table: moving.Model, page: list[moving.Row]) -> None:
    written(table, page[:-1] if table is ModelProgress else page)


def change(table: moving.Model, page: list[moving.Row]) -> None:
    written(table, [(*row[:-1], bytes(row[-1])[:-1] + b"x") if table is Embedding else row for row in page])


@pytest.mark.parametrize(("fault", "table"), [(lose, "batches_modelprogress"), (change, "embeddings_embedding")])
def test_what_is_not_the_same_is_found(
    library: None, target: str, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., None], table: str
) -> None:
    monkeypatch.setattr(moving, "_write", fault)
    with pytest.raises(MoveError, match=f"The table {table} is not the same"):
        move(target, quietly)
    assert not moving.is_moved()


def test_move_that_broke_off_begins_anew(library: None, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as faulty:
        faulty.setattr(moving, "_write", lose)
        with pytest.raises(MoveError):
            move(target, quietly)
    before = rows(SOURCE)
    Track.objects.filter(pk="t000").update(title="Changed since")
    move(target, quietly)
    with moving._connected(target):
        assert rows(TARGET) == rows(SOURCE) != before


def test_move_that_broke_off_between_its_two_marks_comes_to_its_end(library: None, target: str) -> None:
    move(target, quietly)
    with moving._connected(target):
        moving._set_mark(TARGET, "target", moving._sentences()[0])
    call_command("move_database", target)
    with moving._connected(target):
        assert moving._mark(TARGET) == ("", "")


def test_half_moved_database_is_not_worked_with(library: None, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    moving._set_mark(SOURCE, "target", "A move from a to b has not come to its end.")
    with pytest.raises(CommandError, match=r"has not come to its end.*the former one and run .*move_database"):
        command.bring_up_to_date()


@pytest.mark.parametrize(
    "address", ["", "mysql://anna:s3cret@h/n", "postgres://anna:s3#cret@h/n", "postgres://anna:s3cret@h:port/n"]
)
def test_address_that_is_none_is_not_repeated(library: None, home: object, address: str) -> None:
    with pytest.raises(CommandError, match="not usable; it must be a URL like") as caught:
        call_command("move_database", address)
    assert "cret" not in str(caught.value)


def test_server_that_is_away_is_named_without_the_password(library: None, home: object) -> None:
    with pytest.raises(CommandError, match=r"127\.0\.0\.1.*port 1 failed") as caught:
        call_command("move_database", "postgres://anna:s3cret@127.0.0.1:1/n")
    assert "s3cret" not in str(caught.value)
    assert not moving.is_moved()


def test_next_steps_are_said_without_the_password(
    library: None, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = target.replace("postgres@", "postgres:s3cret@")
    call_command("move_database", given)
    said = capsys.readouterr().out
    assert f"DATABASE_URL={target.replace('postgres@', 'postgres:…@')}\n" in said
    assert f"{moving.place(SOURCE)} is not used any more" in said
    assert "s3cret" not in said
    assert TARGET not in connections.databases
