"""The connection to Milvus, one for each process, and calls by it."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import grpc
from django.conf import settings
from pymilvus import MilvusClient, MilvusException

from embeddings.errors import IndexUnavailable
from navembed_site.process.slow_calls import RaiseIfStopped, patiently

# It logs every failed call with a traceback; our callers get the same as an exception.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

CONNECT_PAUSES = (0.1, 0.4, 1.0)  # seconds between tries to connect; a job does the long waiting
LITE_VERSION = "milvus_lite"  # a Milvus server may call itself "v2.3.5-lite"

T = TypeVar("T")


class _Connection(NamedTuple):
    client: Any
    is_lite: bool
    unsealed: Counter[str]
    """How many rows this process has written to each collection since it last sealed it."""


_connections: dict[tuple[int, str, str], _Connection] = {}
_connecting = threading.Lock()


def _renew_lock() -> None:
    global _connecting  # noqa: PLW0603
    _connecting = threading.Lock()


# A child made by fork gets its own client (the key holds the process id) and no lock that a lost thread
# holds. The parent's client stays referenced: closing it in the child would end the parent's connection.
os.register_at_fork(after_in_child=_renew_lock)


class MilvusCalls:
    """Calls MilvusClient's methods by name. Cheap to make: all threads of a process share one connection.

    ``timeout`` bounds calls that read, ``write_timeout`` those that write, ``connect_pauses`` lie between tries to
    connect; all in seconds. ``raise_if_stopped`` is called about once a second while Milvus is slow: a call may take
    longer than a lease lasts. All calls raise IndexUnavailable when Milvus is away, too slow, or fails.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        write_timeout: float = 60.0,
        connect_pauses: Sequence[float] = CONNECT_PAUSES,
        raise_if_stopped: RaiseIfStopped | None = None,
    ) -> None:
        self.uri = settings.MILVUS_URI or f"unix:{settings.MILVUS_LITE_SOCKET}"
        self.token = settings.MILVUS_TOKEN
        self.timeout = timeout
        self.write_timeout = write_timeout
        self.connect_pauses = connect_pauses
        self.raise_if_stopped = raise_if_stopped

    def _read(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._call(method, *args, timeout=self.timeout, **kwargs)

    def _write(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._call(method, *args, timeout=self.write_timeout, **kwargs)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        client = self._connection().client
        return self._guarded(lambda: getattr(client, method)(*args, **kwargs))

    def _guarded(self, call: Callable[[], T]) -> T:
        """Return the call's result; whatever it raises becomes IndexUnavailable."""
        try:
            return patiently(call, self.raise_if_stopped) if self.raise_if_stopped else call()
        except MilvusException as error:
            raise IndexUnavailable(f"Milvus at {self.uri}: {error.message}") from error
        except grpc.RpcError as error:
            reason = f"{error.code().name} {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise IndexUnavailable(f"Milvus at {self.uri} did not answer: {reason}") from error

    def _connection(self) -> _Connection:
        """Return this process's connection to a server that listens now; wait for one a second or two."""
        for pause in (*self.connect_pauses, None):
            try:
                _knock(self.uri, self.timeout)
                break
            except OSError as error:
                if pause is None:
                    raise IndexUnavailable(f"nothing listens at {self.uri}: {error}") from error
                time.sleep(pause)
        key = (os.getpid(), self.uri, self.token)
        with _connecting:
            if key not in _connections:
                _connections[key] = self._guarded(self._connect)
            return _connections[key]

    def _connect(self) -> _Connection:
        client = MilvusClient(uri=self.uri, token=self.token, timeout=self.timeout, dedicated=True)
        is_lite = client.get_server_version(timeout=self.timeout).startswith(LITE_VERSION)
        return _Connection(client, is_lite, Counter())


def _knock(uri: str, timeout: float) -> None:
    """Raise OSError when nothing listens there: pymilvus would try for the whole of a call's time-out."""
    if uri.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(timeout)
            probe.connect(uri.removeprefix("unix:"))
        return
    parts = urlsplit(uri)
    port = parts.port or (443 if parts.scheme == "https" else 19530)
    socket.create_connection((parts.hostname or "localhost", port), timeout).close()
