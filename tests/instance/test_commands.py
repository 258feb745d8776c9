"""What holds for every command: it may be the first in a new instance, and none ends in a traceback."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.recorder import MigrationRecorder

from navembed_site import installation
from navembed_site.instance import command as commands
from navembed_site.instance.backup.operations import OUR_APPS
from navembed_site.instance.programs import programs
from navembed_site.process.locks import hold
from tests.instance.conftest import MANAGE, Instance

OURS = sorted(name for name, app in get_commands().items() if app.rpartition(".")[2] in OUR_APPS)


@pytest.fixture
def new(instance: Instance) -> Instance:
    """An instance whose folder does not exist yet; that of its music does."""
    music = Path(instance.environment["NAVIDROME_MUSIC_ROOT"])
    music.mkdir(exist_ok=True)
    (music / "cover.jpg").touch()
    instance.home /= "new"
    instance.environment["NAVEMBED_HOME"] = str(instance.home)
    return instance


def files(folder: Path) -> dict[str, int]:
    """Modes by name of all that is in ``folder``, itself included."""
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}


def others_may(folder: Path) -> dict[str, str]:
    """Modes of what is not for its owner alone."""
    return {name: oct(mode) for name, mode in files(folder).items() if mode & 0o077}


@pytest.mark.parametrize("name", OURS)
def test_commands_are_programs_or_prepare_the_database(name: str) -> None:
    kinds = {program.arguments[0] for program in programs().values()} | {"milvus_lite", "uploads", "check", "migrate"}
    assert name in kinds or isinstance(load_command_class(get_commands()[name], name), commands.Command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["library_status"], "The library has not been read yet"),
        (["createsuperuser", "--noinput", "--username", "anna", "--email", "a@example.org"], "Superuser created"),
    ],
)
def test_first_command_makes_a_database_for_its_owner_alone(new: Instance, command: list[str], said: str) -> None:
    ended = new.run(*command)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert said in ended.stdout
    assert files(new.home)["navembed.sqlite3"] == 0o600
    assert others_may(new.home) == {}


def test_two_first_commands_at_once(new: Instance) -> None:
    started = [new.start("job", "list") for _ in range(2)]
    assert [process.communicate(timeout=300)[0] for process in started] == ["There is no job yet.\n"] * 2
    assert others_may(new.home) == {}


def test_first_serve_keeps_its_files_for_its_owner(new: Instance) -> None:
    assert new.run("serve", "--only", "web", "--detach").returncode == 0
    assert new.run("stop").returncode == 0
    assert others_may(new.home) == {}


# The database of another version


@pytest.mark.django_db
def test_older_database_is_left_alone_while_it_is_in_use() -> None:
    (newest,) = MigrationExecutor(connection).loader.graph.leaf_nodes("batches")
    MigrationRecorder(connection).record_unapplied(*newest)
    with hold("web"), pytest.raises(CommandError, match=r"in use \(web\).*manage.py stop"):
        commands.bring_up_to_date()


@pytest.mark.django_db
def test_newer_database_is_refused() -> None:
    MigrationRecorder(connection).record_applied("batches", "9999_of_tomorrow")
    with pytest.raises(CommandError, match=r"newer navembed, which knows batches.9999_of_tomorrow"):
        commands.bring_up_to_date()


# Ends


def test_database_that_cannot_be_used_is_one_sentence(instance: Instance) -> None:
    (instance.home / "navembed.sqlite3").write_text("This is no database, but it is long enough to be taken for one.\n")
    for command in (["job", "list"], ["backup", str(instance.home / "backup")]):
        ended = instance.run(*command)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert "is damaged: file is not a database" in ended.stderr


def test_home_that_cannot_be_used_is_named(instance: Instance) -> None:
    (instance.home / "file").touch()
    ended = instance.run("job", "list", NAVEMBED_HOME=str(instance.home / "file"))
    assert ended.returncode == 1
    assert f"NAVEMBED_HOME is '{instance.home}/file', which cannot be used: File exists." in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", [["job", "list"], ["library_status"], ["help"]])
def test_reader_that_has_seen_enough_ends_a_command_quietly(instance: Instance, command: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        environment = os.environ | instance.environment
        ended = subprocess.run([*MANAGE, *command], env=environment, stdout=out, stderr=subprocess.PIPE, check=False)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_ctrl_c_ends_a_command_quietly(instance: Instance) -> None:
    ended = instance.run("shell", "--no-imports", "-c", "import os; os.kill(os.getpid(), 2)")
    assert (ended.returncode, ended.stderr) == (130, "")


def test_demo_leaves_the_settings_of_a_library_alone(
    settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "MODULES", ("json",))
    settings.NAVEMBED_HOME = tmp_path
    (tmp_path / "navembed.env").write_text("NAVIDROME_DB_PATH=/data/navidrome.db\n")
    with pytest.raises(CommandError, match="NAVEMBED_HOME=var/demo"):
        call_command("demo", exit=True)
    assert (tmp_path / "navembed.env").read_text() == "NAVIDROME_DB_PATH=/data/navidrome.db\n"
