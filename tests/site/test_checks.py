"""System checks: every wrong setting is named."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from embeddings import checks
from navembed_site import environment, installation
from navembed_site.access import checks as access_checks
from navembed_site.settings import BASE_DIR
from tests.navidrome_db import make_navidrome


def test_every_id_stands_for_one_check() -> None:
    sources = [path for app in ("navembed_site", "embeddings", "batches") for path in (BASE_DIR / app).rglob("*.py")]
    ids = Counter(found for path in sources for found in re.findall(r'id="(navembed\.\w+)"', path.read_text()))
    assert len(ids) > 15
    assert ids.most_common(1)[0][1] == 1


def texts(messages: list[CheckMessage]) -> str:
    return "\n".join(message.msg for message in messages)


def test_settings_of_the_tests_are_right() -> None:
    found = [checks.check_environment(), checks.check_python(), checks.check_socket_paths()]
    assert [*found, checks.check_devices(), checks.check_database()] == [[]] * 5


def test_problem_of_the_environment_is_an_error(settings: Any) -> None:
    settings.ENVIRONMENT_PROBLEMS = ["NAVEMBED_X is wrong."]
    [message] = checks.check_environment()
    assert (message.msg, message.is_serious()) == ("NAVEMBED_X is wrong.", True)


def test_stubs_are_a_warning(settings: Any) -> None:
    settings.STUBS_REQUESTED = True
    [message] = checks.check_environment()
    assert "TEXT_EMBEDDING_USE_STUBS" in message.msg
    assert not message.is_serious()


def test_mistyped_variable_gets_the_nearest_name(settings: Any) -> None:
    settings.UNKNOWN_VARIABLES = {"NAVEMBED_BLIND": ["NAVEMBED_BIND"]}
    [message] = checks.check_environment()
    assert message.hint == "Did you mean NAVEMBED_BIND?"
    assert not message.is_serious()


def test_home_too_deep_for_a_unix_socket_is_an_error(settings: Any) -> None:
    settings.NAVEMBED_HOME = Path("/", "x" * 90)
    settings.EMBEDDER_SOCKET = settings.NAVEMBED_HOME / "embedder.sock"
    assert "NAVEMBED_HOME" in texts(checks.check_socket_paths())


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_device_is_accepted(settings: Any, device: str) -> None:
    settings.DEVICES = (device,)
    assert checks.check_devices() == []


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0"])
def test_unknown_device_is_an_error(settings: Any, device: str) -> None:
    settings.DEVICES = ("cpu", device)
    assert f"TEXT_EMBEDDING_DEVICE names {device!r}" in texts(checks.check_devices())


def test_other_databases_are_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.mysql")
    assert "DATABASE_URL names mysql" in texts(checks.check_database())


def test_library_must_be_named(settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", None
    assert texts(checks.library_problems()).startswith("NAVIDROME_DB_PATH is not set")


def test_library_must_be_a_file(settings: Any, tmp_path: Path) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path
    assert texts(checks.library_problems()).startswith(f"NAVIDROME_DB_PATH is {str(tmp_path)!r}; it must name")


def test_folder_of_music_must_exist(settings: Any, tmp_path: Path) -> None:
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path / "none"
    assert "NAVIDROME_MUSIC_ROOT" in texts(checks.library_problems())
    assert "does not exist" in texts(checks.library_problems())


def test_unreadable_library_is_an_error(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path
    assert "may not read" in texts(checks.library_problems())


@pytest.mark.parametrize("content", [b"", b"a text, and no database of any kind\n" * 9])
def test_library_must_be_a_database(settings: Any, tmp_path: Path, content: bytes) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path / "navidrome.db"
    settings.NAVIDROME_DB_PATH.write_bytes(content)
    assert "NAVIDROME_DB_PATH" in texts(checks.library_problems())


def test_library_must_be_navidromes(settings: Any, tmp_path: Path) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path / "other.db"
    with closing(sqlite3.connect(settings.NAVIDROME_DB_PATH)) as connection:
        connection.execute("CREATE TABLE a (b)")
    assert "is no database of Navidrome" in texts(checks.library_problems())


@pytest.mark.parametrize(("there", "told"), [(False, ["navembed.W007"]), (True, [])])
def test_empty_music_folder_is_a_warning(settings: Any, tmp_path: Path, there: bool, told: list[str]) -> None:
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "navidrome.db", libraries={1: str(tmp_path / "music")})
    if there:
        (tmp_path / "music" / "artist").mkdir(parents=True)
    assert [message.id for message in checks.check_library()] == told


def test_check_looks_into_the_library(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "MODULES", ("json",))  # importing all takes long
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", tmp_path / "none.db"
    with pytest.raises(SystemCheckError, match="does not exist"):
        call_command("check")


def test_command_that_needs_the_library_stops_with_the_sentence(settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_DB_PATH = "navidrome", None
    with pytest.raises(SystemCheckError, match="NAVIDROME_DB_PATH is not set"):
        checks.require_library()


def test_schedule_by_scans_needs_navidrome(settings: Any) -> None:
    settings.SCHEDULE, settings.LIBRARY = "scan", "folder"
    assert "NAVEMBED_SCHEDULE is scan" in texts(checks.check_schedule())
    settings.LIBRARY = "navidrome"
    assert checks.check_schedule() == []


def test_music_server_without_an_account_is_told(settings: Any) -> None:
    settings.SUBSONIC_URL, settings.SUBSONIC_USER, settings.SUBSONIC_PASSWORD = "http://x", "ann", ""
    assert "NAVEMBED_SUBSONIC_PASSWORD must be, too" in texts(checks.check_music_server())
    settings.SUBSONIC_PASSWORD = "b"
    assert checks.check_music_server() == []


def test_trust_in_public_networks_is_a_warning(settings: Any) -> None:
    settings.TRUSTED_NETWORKS = environment.networks("10.0.0.0/8, 0.0.0.0/0, 172.16.0.0/12, 2001:db8::/32, 8.8.8.8")
    [everybody, machine] = access_checks.check_trusted_networks()
    assert "names 0.0.0.0/0" in everybody.msg
    assert "names 8.8.8.8/32" in machine.msg


def test_any_host_name_is_a_warning(settings: Any) -> None:
    assert access_checks.check_hosts() == []
    settings.OUR_HOSTS = ["*"]
    assert "DNS rebinding" in texts(access_checks.check_hosts())
