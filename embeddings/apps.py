from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


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
    """Has the server, too, notice soon that this host has vanished: what it had locked would hold up all others."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;"
            "SET tcp_user_timeout = 30000"
        )
