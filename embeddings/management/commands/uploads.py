"""``manage.py uploads``: take uploads from Navidrome's server until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from navembed_site import OUR_CHECKS
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent
from navembed_site.process.unix_socket import end_without

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Take uploads from Navidrome's server on a unix socket, until SIGTERM or Ctrl-C. `serve` starts it."
    requires_system_checks = OUR_CHECKS

    def handle(self, *args: Any, **options: Any) -> None:
        from embeddings.uploads.server import UploadServer

        if settings.UPLOAD_SOCKET is None:
            raise CommandError("NAVEMBED_UPLOAD_SOCKET is off: no uploads are taken.")
        die_with_parent()
        with hold("uploads"):
            server = UploadServer(settings.UPLOAD_SOCKET)
            for number in (signal.SIGTERM, signal.SIGINT):
                # shutdown() waits for the loop in this very thread, so another one must call it.
                signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
            server.listen()
            end_without(settings.UPLOAD_SOCKET)
            logger.info("uploads are taken at %s", settings.UPLOAD_SOCKET)
            server.serve_forever(poll_interval=0.2)
            server.stop()
            logging.shutdown()
            os._exit(0)  # a client that still sends must not keep us
