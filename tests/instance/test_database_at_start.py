"""A database that cannot be used is one sentence at the start, whoever asks: which one, why, and what helps."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.instance.conftest import MANAGE, Instance

COMMANDS = (
    ["serve", "--only", "web", "--detach"],
    ["job", "list"],
    ["migrate"],
    ["createsuperuser", "--noinput", "--username", "anna", "--email", "a@example.org"],
    ["shell", "--no-imports", "-c", "from batches.models import BatchJob; BatchJob.objects.count()"],
)


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2 // 4096 * 4096)


def overwrite(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


@pytest.mark.parametrize("damage", [cut_short, overwrite])
def test_damaged_database_is_one_sentence_for_every_command(instance: Instance, damage: Callable[..., None]) -> None:
    path = instance.home / "navembed.sqlite3"
    damage(path)
    for command in COMMANDS[:: 1 if damage is overwrite else 4]:
        ended = instance.run(*command)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert f"The database {path} is damaged" in ended.stderr
        assert "manage.py restore FILE --force" in ended.stderr


def test_damaged_database_is_named_by_check_and_a_backup_brings_it_back(instance: Instance) -> None:
    file = instance.home / "backup.tar"
    assert instance.run("backup", str(file)).returncode == 0
    cut_short(instance.home / "navembed.sqlite3")
    assert "is damaged" in instance.run("check", "embeddings").stderr
    assert instance.run("restore", str(file), "--force").returncode == 0
    assert instance.run("job", "list").stdout == "There is no job yet.\n"


def test_page_of_garbage_keeps_serve_from_starting(instance: Instance) -> None:
    path = instance.home / "navembed.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        [root] = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'batches_batchjob'").fetchone()
        [size] = database.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(random.Random(1).randbytes(size))
    refused = instance.run("serve", "--only", "web", "--detach")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert f"The database {path} is damaged" in refused.stderr


def test_emptied_database_of_a_filled_instance_is_no_new_instance(instance: Instance) -> None:
    path = instance.home / "navembed.sqlite3"
    path.write_bytes(b"")
    traces = ("cache/spool/jobs/7/rows", "progress.json", "milvus.db/collections/muq/data")
    for trace, command in zip(traces, COMMANDS[:3], strict=True):
        kept = instance.home / trace
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"status": "completed", "job_id": 3}))
        refused = instance.run(*command)
        kept.unlink()
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert f"The database {path} is empty: the instance has worked before, as {instance.home}" in refused.stderr
        assert "manage.py restore FILE" in refused.stderr


def test_absent_server_is_named_without_its_password(instance: Instance) -> None:
    url = "postgres://anna:geheim@127.0.0.1:1/music"
    for command in COMMANDS[:2]:
        ended = instance.run(*command, DATABASE_URL=url)
        assert (ended.returncode, "Traceback" in ended.stderr, "geheim" in ended.stderr) == (1, False, False)
        assert "The database 'music' of PostgreSQL at 127.0.0.1:1 cannot be reached" in ended.stderr


def test_file_system_that_takes_no_more_is_one_sentence(instance: Instance) -> None:
    for command in COMMANDS[0], COMMANDS[3]:
        limited = ["sh", "-c", 'ulimit -f 16; exec "$@"', "sh", *MANAGE, *command]
        environment = os.environ | instance.environment
        ended = subprocess.run(limited, env=environment, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
        assert f"The database {instance.home / 'navembed.sqlite3'} is on a " in ended.stderr
        assert "full" in ended.stderr


def test_place_where_no_database_can_be_is_one_sentence(instance: Instance) -> None:
    ended = instance.run(*COMMANDS[0], DATABASE_URL="sqlite:////proc/navembed.sqlite3")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert "The database /proc/navembed.sqlite3 cannot be written: unable to open database file" in ended.stderr
