"""Our own Milvus Lite server: the index of a machine that has no Milvus.

Milvus Lite may be opened by one process only, and concurrent writes destroy its write-ahead log silently. So
one process owns the folder, all others connect to its unix socket, and every write waits for one lock inside
the server: a lock held by clients would be freed by a client's death while its write goes on here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embeddings.index import lite_patches
from navembed_site.process.unix_socket import end_without

logger = logging.getLogger(__name__)

# fmt: off
READS = frozenset(
    {
        "CheckHealth", "Connect", "DescribeAlias", "DescribeCollection", "DescribeDatabase",
        "DescribeIndex", "GetCollectionStatistics", "GetFlushState", "GetLoadState",
        "GetLoadingProgress", "GetVersion", "HasCollection", "HybridSearch", "ListAliases",
        "ListDatabases", "Query", "Search", "ShowCollections"
    }
)
# fmt: on
"""Calls that only read; all others, also those that future clients may make, are taken for writes."""

MESSAGE_BYTES = 256 * 2**20
THREADS = 32  # waiting writers occupy threads too; readers must find one


def serve(folder: Path, socket: Path) -> None:
    """Serve the Milvus Lite ``folder`` (its name ends in .db) on the unix ``socket`` until SIGTERM or SIGINT.

    While another server holds the folder this waits, and then takes over. Call it from the main thread.
    Raises ValueError when the folder has another name.
    """
    if folder.suffix != ".db":
        raise ValueError(f"the folder of Milvus Lite must end in .db: {folder}")
    os.umask(0o077)
    folder.mkdir(parents=True, exist_ok=True)
    with _sole_owner(folder):
        # Before any thread exists, so that all inherit it: the signals must reach sigwait and nobody else.
        signals = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        database, writing = _open(folder), threading.Lock()
        server = _server(database, writing)
        socket.unlink(missing_ok=True)  # left by a server that was killed
        server.add_insecure_port(f"unix:{socket}")
        socket.chmod(0o600)
        server.start()
        end_without(socket)
        logger.info("Milvus Lite serves %s on %s", folder, socket)
        signal.sigwait(signals)
        server.stop(grace=5).wait()
        socket.unlink(missing_ok=True)
        with writing:
            database.close()  # flushes; the next start has nothing to replay
    logger.info("Milvus Lite has closed %s", folder)


@contextmanager
def _sole_owner(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; wait for it if need be. The kernel frees it however this process ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("Another server holds %s; waiting until it ends", folder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _open(folder: Path) -> Any:
    """Open the database so that no two threads open, create, rename or drop collections at the same time.

    Two readers that open one collection at once would replay its log twice, and the writer might get the copy
    that is thrown away.
    """
    logging.getLogger("faiss").setLevel(logging.WARNING)  # it reports each instruction set that it tries
    from milvus_lite.db import MilvusLite

    lite_patches.install()
    opening = threading.RLock()

    def serialised(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with opening:
                return method(*args, **kwargs)

        return call

    names = ("get_collection", "create_collection", "rename_collection", "drop_collection")
    opened = type("SerialisedLite", (MilvusLite,), {name: serialised(getattr(MilvusLite, name)) for name in names})
    return opened(str(folder))


def _server(database: Any, writing: threading.Lock) -> Any:
    """Return a gRPC server over ``database``, not yet bound or started; each write holds ``writing``."""
    import grpc
    from milvus_lite.adapter.grpc.servicer import MilvusServicer
    from pymilvus.grpc_gen.milvus_pb2_grpc import add_MilvusServiceServicer_to_server

    class OneWriter(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
        """Lets one write run at a time."""

        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            name = details.method.rsplit("/", 1)[-1]
            if name not in vars(MilvusServicer):
                return None  # "unimplemented", without the traceback that the generated base class logs
            handler = continuation(details)
            if name in READS:
                return handler

            def write(request: Any, context: Any) -> Any:
                with writing:
                    if not context.is_active():
                        # Its client gave up and may have tried again: a late write could undo a newer one.
                        context.abort(grpc.StatusCode.CANCELLED, "the client has gone")
                    return handler.unary_unary(request, context)

            return grpc.unary_unary_rpc_method_handler(write, handler.request_deserializer, handler.response_serializer)

    server = grpc.server(
        ThreadPoolExecutor(THREADS, thread_name_prefix="milvus-lite"),
        interceptors=[OneWriter()],
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.http2.max_ping_strikes", 0),  # pymilvus pings oftener than servers allow, and is cut off
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
        ],
    )
    add_MilvusServiceServicer_to_server(MilvusServicer(database), server)
    return server
