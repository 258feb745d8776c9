from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created


class EmbeddingsConfig(AppConfig):
    name = "embeddings"

    def ready(self) -> None:
        from embeddings import checks  # noqa: F401  (registers the system checks)

        connection_created.connect(set_up_sqlite)


def set_up_sqlite(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Sets write-ahead logging, so that readers go on while one writes, and lets a new file shrink."""
    if connection.vendor != "sqlite":
        return
    with connection.cursor() as cursor:
        # Takes the write lock, and has an effect only before anything else is written.
        if cursor.execute("PRAGMA page_count").fetchone()[0] == 0:
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
        cursor.execute("PRAGMA journal_mode=WAL")
