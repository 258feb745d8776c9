from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

STILL_SECONDS = 180  # between two statements of a transaction; a worker that was stopped for less goes on


class EmbeddingsConfig(AppConfig):
    name = "embeddings"

    def ready(self) -> None:
        from embeddings import checks  # noqa: F401  (registers the system checks)

        connection_created.connect(set_up_sqlite)
        connection_created.connect(set_up_postgresql)


def set_up_sqlite(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Sets write-ahead logging, so that readers go on while one writes, and lets a new file shrink."""
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        # Takes the write lock, and has an effect only before anything else is written.
        if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
        cursor.execute("PRAGMA journal_mode=WAL")


def set_up_postgresql(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Has the server notice that this host has vanished or stands still: what it has locked holds up all others."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
            f"SET tcp_user_timeout = 30000; SET idle_in_transaction_session_timeout = '{STILL_SECONDS}s'"
        )
