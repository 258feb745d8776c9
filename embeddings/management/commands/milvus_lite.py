"""``manage.py milvus_lite``: serve the search index of a machine that has no Milvus."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from embeddings.index.lite_server import serve
from navembed_site.process.locks import hold
from navembed_site.process.parent import die_with_parent


class Command(BaseCommand):
    help = "Serve the search index (Milvus Lite) on a unix socket, until SIGTERM or Ctrl-C."
    requires_system_checks = []  # checks may ask the index, which is not there yet

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.MILVUS_URI:
            raise CommandError("NAVIDROME_MILVUS_URI names a Milvus: no server of our own is needed.")
        die_with_parent()
        with hold("milvus_lite"):
            serve(settings.MILVUS_LITE_FOLDER, settings.MILVUS_LITE_SOCKET)
