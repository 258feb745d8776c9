"""The environment: what `make env` installs, and what somebody reads whose environment is broken."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError

from navembed_site import installation
from tests import package_index

INSTALL = settings.BASE_DIR / "requirements" / "install.sh"
THIS_MACHINE = f"py3-none-manylinux_2_17_{platform.machine()}"
WITHOUT_LIBRARY = "import ctypes\nctypes.CDLL('libsndfile-of-another-machine.so')\n"
Install = Callable[..., "subprocess.Popen[bytes]"]


class Indexes(NamedTuple):
    """Two package indexes, each complete: of soundfile, the wrong one has the wheel of another machine."""

    right: str
    wrong: str
    lock: Path


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Indexes:
    folder = tmp_path_factory.mktemp("indexes")
    uv = Path(sys.executable).with_name("uv").read_bytes()
    packages = {name: package_index.wheel(folder, name, {f"{name}.py": ""}) for name in installation.MODULES}
    packages["muq"] = package_index.source(folder, "muq", packages["muq"])
    packages["uv"] = package_index.wheel(folder, "uv", {"uv-1.0.data/scripts/uv": uv})
    packages["soundfile"] = package_index.wheel(folder, "soundfile", {"soundfile.py": ""}, THIS_MACHINE)
    wrong = package_index.wheel(folder, "soundfile", {"soundfile.py": WITHOUT_LIBRARY})
    lock = folder / "lock.txt"
    lock.write_text(package_index.lock([*packages.values(), wrong]))
    return Indexes(
        package_index.index(folder / "right", packages.values()),
        package_index.index(folder / "wrong", (packages | {"soundfile": wrong}).values()),
        lock,
    )


@pytest.fixture
def install(tmp_path: Path, indexes: Indexes) -> Install:
    """Start what `make env` runs, for an environment in ``tmp_path`` and without the developer's configuration."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "UV_CACHE_DIR": str(tmp_path / "cache")}
    command = [INSTALL, sys.executable, tmp_path / "venv", indexes.lock]

    def start(**variables: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "output.txt").open("w") as output:
            return subprocess.Popen(
                command, env=clean | variables, stdout=output, stderr=output, start_new_session=True
            )

    return start


def installed_soundfile(environment: Path) -> str:
    [module] = environment.glob("lib/python3*/site-packages/soundfile.py")
    return module.read_text()


def test_only_the_index_of_pip_is_used(install: Install, indexes: Indexes, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {indexes.right}\nextra-index-url = {indexes.wrong}\n")
    (tmp_path / "uv.toml").write_text(f'[[index]]\nurl = "{indexes.wrong}"\n')
    files = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "UV_CONFIG_FILE": str(tmp_path / "uv.toml")}
    run = install(**files, UV_INDEX=indexes.wrong)
    assert run.wait() == 0, (tmp_path / "output.txt").read_text()
    assert installed_soundfile(tmp_path / "venv") == ""
    assert (tmp_path / "venv" / "installed.txt").read_text() == indexes.lock.read_text()


def test_wrong_wheel_fails_loudly_and_the_next_install_begins_anew(
    install: Install, indexes: Indexes, tmp_path: Path
) -> None:
    assert install(PIP_INDEX_URL=indexes.wrong, PIP_EXTRA_INDEX_URL=indexes.right).wait() == 1
    said = (tmp_path / "output.txt").read_text()
    assert "The package soundfile is missing or broken (libsndfile-of-another-machine.so: cannot open" in said
    assert "Traceback" not in said
    assert not (tmp_path / "venv" / "installed.txt").exists()
    assert install(PIP_INDEX_URL=indexes.right).wait() == 0
    assert installed_soundfile(tmp_path / "venv") == ""


def test_index_out_of_reach_is_a_sentence(install: Install, tmp_path: Path) -> None:
    assert install(PIP_INDEX_URL="http://127.0.0.1:9/simple").wait() == 1
    said = (tmp_path / "output.txt").read_text()
    assert "pip could not install uv. Look at the network" in said
    assert "Traceback" not in said


def test_install_that_is_killed_leaves_nothing_that_counts_as_made(
    install: Install, indexes: Indexes, tmp_path: Path
) -> None:
    (tmp_path / "venv").mkdir()
    made = tmp_path / "venv" / "installed.txt"
    made.write_text("what an older lock said")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        run = install(PIP_INDEX_URL=f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        with silent.accept()[0]:  # pip has asked, and waits
            os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert not made.exists()


def manage(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, settings.BASE_DIR / "manage.py", "status"]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


def test_interpreter_without_django_is_told_of_ours() -> None:
    run = manage("-S")  # none of the packages
    assert run.stderr.startswith("The package django is missing or broken (No module named 'django'). This is ")
    assert run.stderr.endswith(".venv/bin/python, and `make env` makes it.\n")


@pytest.mark.parametrize("half", [WITHOUT_LIBRARY, "from django_q import gone"])
def test_half_removed_package_is_a_sentence(half: str, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "django_q"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(half)
    run = manage(PYTHONPATH=str(package.parent))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("The package django_q is missing or broken (")


def test_our_own_mistakes_keep_their_traceback() -> None:
    with pytest.raises(ImportError, match="cannot import name 'gone'"), installation.explained():
        from navembed_site import gone  # noqa: F401


def test_package_that_crashes_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(installation, "MODULES", ("json", "crashing", "csv"))
    assert "The package crashing is missing or broken (SIGSEGV" in (installation.problem() or "")


@pytest.mark.django_db
def test_check_reports_what_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> None:
    settings.LIBRARY, settings.NAVIDROME_MUSIC_ROOT = "folder", tmp_path
    monkeypatch.setattr(installation, "MODULES", ("json", "gone"))
    with pytest.raises(SystemCheckError, match=r"The package gone is missing or broken \(No module named 'gone'\)"):
        call_command("check")
    monkeypatch.setattr(installation, "MODULES", ("json",))
    call_command("check")
