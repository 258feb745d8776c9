"""Everything that matters of an instance in one file, taken while it runs, and back again."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.utils import timezone

from navembed_site.instance import supervisor
from navembed_site.instance.backup import archive, databases
from navembed_site.instance.backup.archive import DATABASE, SETTINGS, BackupError, Manifest
from navembed_site.instance.programs import programs
from navembed_site.process.locks import hold

OUR_APPS = ("access", "embeddings", "batches")
SECRET_NAMES = re.compile("TOKEN|SECRET|PASSWORD|KEY|_URL$")
OF_THE_MACHINE = ("NAVEMBED_HOME", "LOG_DIR", "PID_DIR", "NAVIDROME_MILVUS_URI")


def backup(file: Path) -> Manifest:
    """Write a backup of the instance, which may be at work, to ``file``; what was there is replaced at the end.

    Beside ``file`` it needs, for a while, twice the database's size. Raises BackupError.
    """
    if not set(counted_tables().values()) <= set(connection.introspection.table_names()):
        raise BackupError("This instance has no tables yet; `manage.py serve` makes them.")
    folder = file.absolute().parent
    archive.require_free_disk(folder, 2 * databases.size())
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{file.name}-") as work:  # for its owner alone
        database, variables, whole = Path(work, DATABASE), Path(work, SETTINGS), Path(work, "whole")
        counts = databases.dump(database, counted_tables())
        variables.write_text(settings_text(settings.GIVEN_VARIABLES), encoding="utf-8")
        manifest = Manifest(
            version=_version(),
            engine=connection.vendor,
            created=timezone.localtime().isoformat(timespec="seconds"),
            host=socket.gethostname(),
            counts=counts,
            migrations=_applied_migrations(),
        )
        archive.write(whole, {DATABASE: database, SETTINGS: variables}, manifest)
        whole.chmod(0o600)
        whole.replace(file)
    archive.sync_folder(folder)
    return manifest


def restore(file: Path, *, force: bool = False) -> tuple[Manifest, Path]:
    """Make this instance what ``file`` holds; its processes must be stopped. Returns where the settings are now.

    The search index is not part of it. Raises BackupError, having changed nothing; with ``force`` a database
    that holds something is overwritten.
    """
    from batches.engine import leases

    manifest = archive.verify(file)
    _require_usable(manifest)
    with alone():
        if not force and _holds_something():
            raise BackupError("The database of this instance holds something already; --force overwrites it.")
        connection.close()
        with archive.member(file, DATABASE) as (content, size):
            databases.restore(content, size, without=_of_the_machine())
        call_command("migrate", interactive=False, verbosity=0)
        leases.recover()  # of the old machine: they are freed, and woken when a job is unfinished
        _keep_what_is_away()
        return manifest, _restore_settings(file)


def counted_tables() -> dict[str, str]:
    """Tables by what their rows are called: those in which something of the user's lies."""
    from django.contrib.auth.models import User

    from batches.models import BatchJob
    from embeddings.models import Embedding, Track

    return {
        "tracks": Track._meta.db_table,
        "embeddings": Embedding._meta.db_table,
        "jobs": BatchJob._meta.db_table,
        "users": User._meta.db_table,
    }


def settings_text(variables: dict[str, str]) -> str:
    """Return a navembed.env of ``variables`` without secrets. What belongs to the machine becomes a comment."""
    lines = ["# From a backup. Paths are those of the machine on which it was made."]
    for name, value in variables.items():
        if SECRET_NAMES.search(name) or "@" in urlsplit(value).netloc or "\n" in value:
            lines.append(f"# {name} was set. It may hold a secret and is not kept.")
        else:
            lines.append(f"# {name}={value}" if name in OF_THE_MACHINE else f"{name}={value}")
    return "\n".join(lines) + "\n"


def _version() -> str:
    project = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))
    return str(project["project"]["version"])


def _applied_migrations() -> list[str]:
    applied = MigrationRecorder(connection).applied_migrations()
    return sorted(f"{app}.{name}" for app, name in applied if app in OUR_APPS)


def _require_usable(manifest: Manifest) -> None:
    if manifest.engine != connection.vendor:
        raise BackupError(f"The backup is of {manifest.engine}, but DATABASE_URL names {connection.vendor}.")
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations or ()}
    if unknown := sorted(set(manifest.migrations) - known):
        raise BackupError(f"The backup is of a newer navembed ({manifest.version}): it knows {unknown[-1]}.")


@contextmanager
def alone() -> Iterator[None]:
    """Keep every program of the instance from working meanwhile. Raises BackupError when one does already."""
    running = [program.name for program in programs().values() if program.is_running]
    if supervisor.is_running() or running:
        raise BackupError(f"The instance runs ({', '.join(running) or 'serve'}); `manage.py stop` stops it.")
    with ExitStack() as locks:
        for name in programs():
            locks.enter_context(hold(name))
        yield


def holds_rows(database: BaseDatabaseWrapper) -> bool:
    """Whether a database of ours holds anything of the user's; False before it has tables."""
    with database.cursor() as cursor:
        for table in set(counted_tables().values()) & set(database.introspection.table_names(cursor)):
            cursor.execute(f"SELECT 1 FROM {database.ops.quote_name(table)} LIMIT 1")  # noqa: S608
            if cursor.fetchone():
                return True
    return False


def _holds_something() -> bool:
    try:
        return holds_rows(connection)
    except DatabaseError:
        return databases.exists()  # what cannot be read may be worth mending


def _of_the_machine() -> list[str]:
    """Tables that are not restored: messages, schedules and results of tasks are made anew where they are needed."""
    from django_q.models import OrmQ, Schedule, Task

    return [model._meta.db_table for model in (OrmQ, Schedule, Task)]


def _keep_what_is_away() -> None:
    """Counts the days of tracks that are away anew: while the backup lay there, their disk may have been back."""
    from embeddings.models import Instance, Track

    now = timezone.now()
    Track.objects.filter(away_since__isnull=False).update(away_since=now)
    Instance.objects.update(looked_at=now)


def _restore_settings(file: Path) -> Path:
    """Put the settings into place, or beside those that are there; returns where."""
    home = Path(settings.NAVEMBED_HOME)
    target = home / "navembed.env"
    if target.exists():
        target = home / "navembed.env.restored"
        target.unlink(missing_ok=True)
    with archive.member(file, SETTINGS) as (content, _):
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            shutil.copyfileobj(content, out)
    return target
