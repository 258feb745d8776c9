"""``manage.py send_test_webhook``: see whether NAVEMBED_WEBHOOK_URL works."""

from __future__ import annotations

import json
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError
from django.utils import timezone

from batches.webhook import NotDelivered, send
from navembed_site.instance import command


class Command(command.Command):
    help = "Send a message to NAVEMBED_WEBHOOK_URL, once."
    requires_migrations_checks = False

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.WEBHOOK_URL:
            raise CommandError("NAVEMBED_WEBHOOK_URL is not set.")
        try:
            send(json.dumps({"event": "test", "created_at": timezone.now().isoformat()}))
        except NotDelivered as error:
            raise CommandError(f"Not delivered: {error}") from error
        self.stdout.write("Delivered.")
