"""Whether the music is where the library says: a few files are tried."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from embeddings import checks
from embeddings.library import reader, sqlite, storage
from embeddings.library.navidrome import NavidromeLibrary
from embeddings.library.storage import what_is_away
from tests.navidrome_db import add_libraries, add_tracks, make_navidrome


@pytest.fixture
def music(tmp_path: Path, settings: Any) -> Path:
    """The folder of a Navidrome library with three files."""
    root = tmp_path / "music"
    root.mkdir()
    settings.LIBRARY = "navidrome"
    settings.NAVIDROME_DB_PATH = make_navidrome(tmp_path / "navidrome.db", libraries={1: str(root)})
    with closing(sqlite3.connect(settings.NAVIDROME_DB_PATH)) as connection:
        add_tracks(connection, [{"id": name, "path": f"{name}.mp3"} for name in "abc"])
    for name in "abc":
        (root / f"{name}.mp3").write_bytes(b"music")
    return root


def test_what_is_there_is_not_told(music: Path) -> None:
    (music / "b.mp3").unlink()
    assert what_is_away() == []


def test_files_that_lie_elsewhere_name_the_settings(music: Path) -> None:
    (music / "elsewhere").mkdir()
    for path in music.glob("*.mp3"):
        path.rename(music / "elsewhere" / path.name)
    [told] = what_is_away()
    assert told.startswith(f"None of 3 files that the library names is in {music}, for example {music}/a.mp3.")
    assert "NAVEMBED_PATH_MAP or NAVIDROME_MUSIC_ROOT" in told


def test_a_root_that_this_machine_lacks_names_the_settings(music: Path) -> None:
    music.rename(music.with_name("moved"))
    [told] = what_is_away()
    assert f"{music} is empty or not there" in told
    assert "NAVEMBED_PATH_MAP or NAVIDROME_MUSIC_ROOT" in told


def test_storage_that_fails_says_how(music: Path) -> None:
    for path in music.iterdir():
        path.unlink()
        path.symlink_to("/proc/self/mem")  # reading it is an input/output error
    assert "cannot be read: Input/output error" in "".join(what_is_away())


def test_a_blocked_share_is_told_and_no_other(
    music: Path, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(settings.NAVIDROME_DB_PATH)) as connection:
        add_libraries(connection, {2: str(tmp_path / "blocked")})
    look = storage.look_at

    def blocked(root: Path, *arguments: Any) -> Any:
        if root.name == "blocked":
            monkeypatch.setattr(reader, "COMMAND", ["sleep", "60"])
            arguments = (arguments[0], 0.1)
        return look(root, *arguments)

    monkeypatch.setattr(storage, "look_at", blocked)
    assert what_is_away() == [f"The music folder {tmp_path / 'blocked'} does not answer; jobs would wait for it."]


def test_a_database_whose_disk_does_not_answer_is_given_up(
    music: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(sqlite, "ANSWER_SECONDS", -sqlite.BUSY_SECONDS)
    monkeypatch.setattr(sqlite.ForeignDatabase, "_state", lambda self: answer.wait() and None)
    told = what_is_away()
    answer.set()
    assert "cannot be read: it has not answered for" in "".join(told)


def test_reading_the_library_says_so_while_the_database_does_not_answer(
    music: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = sqlite.ForeignDatabase._state
    answer, told = threading.Event(), list[str]()
    monkeypatch.setattr(sqlite.ForeignDatabase, "_state", lambda self: answer.wait() and state(self))

    def tell(doing: str) -> None:
        told.append(doing)
        answer.set()

    [page] = NavidromeLibrary(settings.NAVIDROME_DB_PATH).pages(tell)
    assert (len(page), told) == (3, ["reading Navidrome's database: 0 tracks so far"])


def test_check_tells(music: Path) -> None:
    music.rename(music.with_name("moved"))
    assert [problem.msg for problem in checks.check_library()] == what_is_away()


@pytest.mark.django_db
@pytest.mark.parametrize("arguments", [["library_status"], ["library_status", "--json"]])
def test_library_status_tells(music: Path, capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    music.rename(music.with_name("moved"))
    call_command(*arguments)
    assert "is empty or not there" in "".join(capfd.readouterr())


@pytest.mark.django_db
def test_a_dry_run_tells(music: Path, capfd: pytest.CaptureFixture[str]) -> None:
    music.rename(music.with_name("moved"))
    call_command("embed_library", "--dry-run", "--json", "--models", "muq")
    assert "is empty or not there" in capfd.readouterr().err


def test_a_blocked_path_is_an_error_and_holds_nobody_up(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "COMMAND", ["sleep", "60"])
    monkeypatch.setattr(checks, "LOOK_SECONDS", 0.1)
    [problem] = checks.library_problems()
    assert "NAVIDROME_DB_PATH" in problem.msg
    assert "does not answer" in problem.msg
