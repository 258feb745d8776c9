"""Run the embedder of one device until it is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from embeddings.embedder.client import lock_name, socket_path
from navembed_site import OUR_CHECKS
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent
from navembed_site.process.unix_socket import end_without

logger = logging.getLogger(__name__)

NICENESS = 5  # hours of work on the cores that also answer, here and for the others on this machine


class Command(BaseCommand):
    help = "Run the process that owns a device: models, decoders, batches. `serve` starts it."
    requires_system_checks = OUR_CHECKS

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--device-index", type=int, default=0, help="Which entry of TEXT_EMBEDDING_DEVICE.")

    def handle(self, *args: Any, device_index: int, **options: Any) -> None:
        die_with_parent()
        os.nice(NICENESS)
        with hold(lock_name(device_index)):
            from embeddings.embedder.build import build_embedder
            from embeddings.embedder.host_memory import keep_freed_memory
            from embeddings.embedder.server import EmbedderServer

            keep_freed_memory()
            embedder = build_embedder(settings.DEVICES[device_index])
            server = EmbedderServer(socket_path(device_index), embedder)
            end_without(socket_path(device_index))
            for number in (signal.SIGTERM, signal.SIGINT):
                # shutdown() waits for the loop in this very thread, so another one must call it.
                signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
            logger.info("the embedder listens at %s", socket_path(device_index))
            server.serve_forever(poll_interval=0.2)
            socket_path(device_index).unlink(missing_ok=True)
            embedder.close()
            logging.shutdown()
            os._exit(0)  # Python cannot end in order while a long batch still runs in a thread
