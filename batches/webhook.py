"""Tells another program of a job's end: one POST of JSON, in a task of the light cluster."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from django.conf import settings
from django.utils import timezone
from django_q.tasks import async_task, schedule

from batches.models import BatchJob

logger = logging.getLogger(__name__)

TASK = "batches.tasks.send_webhook"
TIMEOUT_SECONDS = 10
PAUSES = (timedelta(minutes=1), timedelta(minutes=5))  # after the first and the second try


class NotDelivered(Exception):
    """The receiver could not be reached or did not answer with 2xx. The message holds nothing of the address."""


def announce(job: BatchJob) -> None:
    """Have the end of ``job`` told, within the surrounding transaction; nothing without NAVEMBED_WEBHOOK_URL."""
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
    """POST ``body`` to the webhook once. Raises NotDelivered."""
    address, headers = _address()
    if settings.WEBHOOK_SECRET:
        digest = hmac.new(settings.WEBHOOK_SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
        headers["X-Navembed-Signature"] = f"sha256={digest}"
    request = urllib.request.Request(address, body.encode(), headers, method="POST")  # noqa: S310  (http or https)
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
        raise NotDelivered(f"HTTP status {error.code}") from None
    except (OSError, HTTPException, ValueError) as error:
        # Their texts may repeat the address, which may hold a secret.
        reason = getattr(error, "reason", error)
        raise NotDelivered(getattr(reason, "strerror", None) or type(reason).__name__) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes an error of a redirect: the signed message is for the configured address alone."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _address() -> tuple[str, dict[str, str]]:
    """Return the address without a user and password, and the headers, which hold them."""
    headers = {"User-Agent": "navembed", "Content-Type": "application/json"}
    parts = urlsplit(settings.WEBHOOK_URL)
    user, separator, host = parts.netloc.rpartition("@")
    if separator:
        headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
    return urlunsplit(parts._replace(netloc=host, fragment="")), headers


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
