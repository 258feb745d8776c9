"""A limit on how long the database may take to answer: some replies must come whatever it does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Cut the line to a database server that does not answer: a frozen one accepts everything and says nothing.

    Raises django.db.Error then. No time-out of PostgreSQL's does this, for they are the server's, or the kernel's,
    which still answers for it.
    """
    connection.ensure_connection()  # has a limit of its own
    if connection.vendor != "postgresql":
        yield
        return
    with connection.wrap_database_errors:
        descriptor = os.dup(connection.connection.fileno())
    with socket.socket(fileno=descriptor) as line:
        cut = threading.Timer(seconds, line.shutdown, (socket.SHUT_RDWR,))
        cut.start()
        try:
            yield
        finally:
            cut.cancel()
            cut.join()
