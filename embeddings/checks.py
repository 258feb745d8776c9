"""System checks: each wrong setting becomes a sentence that names the variable and says what it must be."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, register
from django.core.management.base import SystemCheckError
from django.db import DatabaseError

from embeddings.errors import LibraryUnavailable
from embeddings.library import open_library
from embeddings.library.reader import look_at
from embeddings.library.storage import LOOK_SECONDS, what_is_away
from navembed_site import OUR_CHECKS, installation
from navembed_site.database.health import look
from navembed_site.environment import SOCKET_PATH_BYTES

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@register(*OUR_CHECKS)
def check_environment(**_: Any) -> list[CheckMessage]:
    """Report the values that settings.py could not use, and names that it does not know."""
    messages: list[CheckMessage] = [Error(text, id="navembed.E001") for text in settings.ENVIRONMENT_PROBLEMS]
    for name, near in settings.UNKNOWN_VARIABLES.items():
        guess = f"Did you mean {near[0]}?" if near else "docs/configuration.md lists those that exist."
        messages.append(checks.Warning(f"{name} is not a variable of navembed.", hint=guess, id="navembed.W002"))
    if settings.STUBS_REQUESTED:
        messages.append(
            checks.Warning(
                "TEXT_EMBEDDING_USE_STUBS is set, but stubs are gone: texts are embedded by the real models.",
                hint="Remove the variable.",
                id="navembed.W001",
            )
        )
    return messages


@register(*OUR_CHECKS)
def check_python(**_: Any) -> list[CheckMessage]:
    if (3, 11) <= sys.version_info[:2] <= (3, 13):
        return []
    running = ".".join(str(part) for part in sys.version_info[:2])
    return [Error(f"Python {running} is not supported; navembed needs 3.11, 3.12 or 3.13.", id="navembed.E002")]


@register(*OUR_CHECKS)
def check_packages(**_: Any) -> list[CheckMessage]:
    hint = "`make env` installs the version that navembed was tested with."
    return [checks.Warning(text, hint=hint, id="navembed.W009") for text in installation.unknown_versions()]


@register(*OUR_CHECKS)
def check_socket_paths(**_: Any) -> list[CheckMessage]:
    """Unix sockets have short names: a deep NAVEMBED_HOME would fail only when the first one is bound."""
    longest = max(len(os.fsencode(path)) for path in (settings.EMBEDDER_SOCKET, settings.MILVUS_LITE_SOCKET))
    if longest + len(".00") <= SOCKET_PATH_BYTES:
        return []
    return [
        Error(
            f"NAVEMBED_HOME is {str(settings.NAVEMBED_HOME)!r}, too long for the unix sockets inside it; "
            f"its full path must be at least {longest + len('.00') - SOCKET_PATH_BYTES} bytes shorter.",
            id="navembed.E003",
        )
    ]


@register(*OUR_CHECKS)
def check_devices(**_: Any) -> list[CheckMessage]:
    return [
        Error(
            f"TEXT_EMBEDDING_DEVICE names {device!r}; it must be auto, cpu, cuda, cuda:N or mps, "
            "several separated by commas.",
            id="navembed.E004",
        )
        for device in settings.DEVICES
        if not DEVICE.fullmatch(device)
    ]


@register(*OUR_CHECKS)
def check_database(**_: Any) -> list[CheckMessage]:
    engine = settings.DATABASES["default"]["ENGINE"].rpartition(".")[2]
    if engine in {"sqlite3", "postgresql"}:
        return []
    return [Error(f"DATABASE_URL names {engine}; it must be sqlite or postgres.", id="navembed.E005")]


@register(*OUR_CHECKS)
def check_schedule(**_: Any) -> list[CheckMessage]:
    if settings.SCHEDULE != "scan" or settings.LIBRARY != "folder":
        return []
    message = "NAVEMBED_SCHEDULE is scan, but NAVEMBED_LIBRARY is folder: only Navidrome scans. Set a time instead."
    return [Error(message, id="navembed.E006")]


@register(*OUR_CHECKS)
def check_music_server(**_: Any) -> list[CheckMessage]:
    """An address without an account would fail only when the first playlist is due."""
    if not settings.SUBSONIC_URL or (settings.SUBSONIC_USER and settings.SUBSONIC_PASSWORD):
        return []
    message = "NAVEMBED_SUBSONIC_URL is set; NAVEMBED_SUBSONIC_USER and NAVEMBED_SUBSONIC_PASSWORD must be, too."
    return [Error(message, id="navembed.E022")]


@register(*OUR_CHECKS)
def check_old_text_projections(**_: Any) -> list[CheckMessage]:
    """Name what the replaced system's scripts left behind: pickled files, which are never loaded."""
    return [
        checks.Warning(
            f"{path} is a text projection of the replaced system; it is not used.",
            hint="`manage.py fit_text_bridge MODEL` learns one from your library. The file may be deleted.",
            id="navembed.W005",
        )
        for path in sorted(settings.CHECKPOINT_DIR.glob("*_best_r1.pt"))
    ]


def check_milvus(**_: Any) -> list[CheckMessage]:
    """Ask Milvus whether it has something of others' under our names. Only `check` does; a Lite that is off is fine."""
    from embeddings.errors import IndexUnavailable
    from embeddings.index.ownership import problem_with
    from embeddings.index.sync import vector_store

    try:
        problem = problem_with(vector_store(connect_pauses=()))
    except DatabaseError:  # without tables nothing is ours yet
        return []
    except IndexUnavailable as error:
        if not settings.MILVUS_URI:
            return []
        return [checks.Warning(f"Milvus could not be asked for its collections: {error}", id="navembed.W003")]
    return [checks.Warning(f"{problem}.", id="navembed.W004")] if problem else []


def check_library(**_: Any) -> list[CheckMessage]:
    """Look into the library. Only `check` registers it: programs that run must not end because a disk is away."""
    return library_problems() or [checks.Warning(problem, id="navembed.W007") for problem in what_is_away()]


def check_database_usable(**_: Any) -> list[CheckMessage]:
    """Look at the database. Only `check` registers it: programs that run must not end because it is away."""
    trouble = look()
    return [Error(str(trouble), id="navembed.E021")] if trouble else []


def library_problems() -> list[CheckMessage]:
    """What keeps the configured library from being read; asked only by what needs it."""
    if settings.LIBRARY == "folder":
        return _path_problems("NAVIDROME_MUSIC_ROOT", settings.NAVIDROME_MUSIC_ROOT, folder=True)
    if settings.LIBRARY == "navidrome" and (
        problems := _path_problems("NAVIDROME_DB_PATH", settings.NAVIDROME_DB_PATH, folder=False)
    ):
        return problems
    try:
        library = open_library()
        library.folders()
        library.last_scan()  # asks a music server, whose list may be here already
    except LibraryUnavailable as error:
        return [Error(str(error), id="navembed.E015")]
    return []


def require_library() -> None:
    """Raise SystemCheckError, which manage.py prints without a traceback, when the library cannot be read."""
    _require(library_problems())


def require_installation() -> None:
    """Raise SystemCheckError when a package cannot be imported; asked only by what may take ten seconds for it."""
    problem = installation.problem()
    _require([Error(problem, id="navembed.E020")] if problem else [])


def _require(problems: Sequence[CheckMessage]) -> None:
    if problems:
        raise SystemCheckError("\n".join(problem.msg for problem in problems))


def _path_problems(name: str, path: Path | None, *, folder: bool) -> list[CheckMessage]:
    kind = "the folder of music" if folder else "Navidrome's database file (navidrome.db)"
    if path is None:
        return [Error(f"{name} is not set; it must name {kind}.", id="navembed.E010")]
    try:
        look_at(path, [str(path)], LOOK_SECONDS)
    except LibraryUnavailable:
        return [
            Error(f"{name} is {str(path)!r}, which does not answer: its disk or share is blocked.", id="navembed.E014")
        ]
    if not path.exists():
        return [Error(f"{name} is {str(path)!r}, which does not exist; it must name {kind}.", id="navembed.E011")]
    if not (path.is_dir() if folder else path.is_file()):
        return [Error(f"{name} is {str(path)!r}; it must name {kind}.", id="navembed.E012")]
    if not os.access(path, os.R_OK | (os.X_OK if folder else 0)):
        return [Error(f"{name} is {str(path)!r}, which this user may not read.", id="navembed.E013")]
    return []
