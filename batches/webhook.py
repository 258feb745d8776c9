"""Tells another program of a job's end: one POST of JSON, in a task of the light cluster."""

from __future__ import annotations

import json
import logging
import socket
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

from django.conf import settings
from django.utils import timezone
from django_q.tasks import async_task, schedule
from standardwebhooks import Webhook

from batches.models import BatchJob
from navembed_site.http.reasons import reason_of

logger = logging.getLogger(__name__)

TASK = "batches.tasks.send_webhook"
TIMEOUT_SECONDS = 10
PAUSES = (timedelta(minutes=1), timedelta(minutes=5))  # after the first and the second try


class NotDelivered(Exception):
    """The receiver could not be reached or did not answer with 2xx. The message holds nothing of the address."""


def announce(job: BatchJob) -> None:
    """Queue the message of the end of ``job``, in the surrounding transaction; nothing without NAVEMBED_WEBHOOK_URL."""
    if settings.WEBHOOK_URL:
        async_task(TASK, json.dumps(_payload(job)), 0, cluster="light", task_name=f"webhook of job {job.pk}")


def deliver(body: str, tries: int) -> str:
    """Send ``body``; after a failure have it sent again later, three times in all. ``tries``: how many failed."""
    try:
        send(body)
    except NotDelivered as error:
        logger.warning("webhook: try %d of %d failed: %s", tries + 1, len(PAUSES) + 1, error)
        if tries < len(PAUSES):
            schedule(TASK, body, tries + 1, next_run=timezone.now() + PAUSES[tries], cluster="light")
        return f"failed: {error}"
    return "delivered"


def send(body: str) -> None:
    """POST ``body`` to the webhook once, and follow no redirect: it is for this address alone. Raises NotDelivered."""
    import httpx

    try:
        with httpx.stream(
            "POST", settings.WEBHOOK_URL, content=body, headers=_headers(body), timeout=TIMEOUT_SECONDS
        ) as answer:  # its body is not read
            delivered, status = answer.is_success, answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        raise NotDelivered(reason_of(error)) from None
    if not delivered:
        raise NotDelivered(f"HTTP status {status}")


def _headers(body: str) -> dict[str, str]:
    """Name and date the message, and sign it, as of standardwebhooks.com. Tried again, it has the same name."""
    name = f"msg_{blake2b(body.encode(), digest_size=16).hexdigest()}"
    now = datetime.now(UTC)
    headers = {
        "User-Agent": "navembed",
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    if settings.WEBHOOK_SECRET:
        headers["webhook-signature"] = Webhook(settings.WEBHOOK_SECRET).sign(name, now, body)
    return headers


def _payload(job: BatchJob) -> dict[str, Any]:
    began, ended = job.started_at, job.finished_at
    return {
        "event": "job_ended",
        "instance": f"{socket.gethostname()}:{settings.PORT}",
        "job_id": job.pk,
        "status": job.status,
        "message": job.message,
        "models": job.model_keys,
        "started_by": job.started_by,
        "total_tracks": job.total_tracks,
        "processed_tracks": job.processed_tracks,
        "failed_tracks": job.failed_tracks,
        "created_at": _text(job.created_at),
        "started_at": _text(began),
        "finished_at": _text(ended),
        "duration_seconds": (ended - began).total_seconds() if began and ended else None,
    }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
