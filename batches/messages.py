"""Django-Q's messages and results as JSON, and of our tasks alone: nothing that lies in the database is run.

Django-Q pickles both, and runs any function that a row names; a row may come from a backup, or from a stranger.
Therefore the key that signs them need not be secret: it is the same on all hosts, whose secret keys differ.
"""

from __future__ import annotations

import json
from typing import Any

import django_q.signing
import picklefield.fields
from django_q.conf import Conf
from django_q.signing import BadSignature

KEY = "navembed"
TASKS = frozenset(
    {
        "batches.tasks.find_duplicates",
        "batches.tasks.fit_bridges",
        "batches.tasks.give_back",
        "batches.tasks.keep_house",
        "batches.tasks.make_maps",
        "batches.tasks.make_playlists",
        "batches.tasks.run_device",
        "batches.tasks.run_schedule",
        "batches.tasks.send_webhook",
        "batches.tasks.watch_devices",
        "navembed_site.process.heartbeat.beat",
    }
)


def keep_as_json() -> None:
    """Put JSON in the place of Django-Q's pickles, in this process; it has no setting for that."""
    django_q.signing.PickleSerializer = Messages
    Conf.SECRET_KEY = KEY
    picklefield.fields.dbsafe_encode = _encode
    picklefield.fields.dbsafe_decode = _decode


class Messages:
    """How a message is written and read."""

    @staticmethod
    def dumps(message: Any) -> bytes:
        return json.dumps(message, default=str).encode()  # times; Django reads their text again

    @staticmethod
    def loads(data: bytes) -> dict[str, Any]:
        """Raises BadSignature, with which Django-Q drops the message."""
        try:
            message = dict(json.loads(data))
        except (ValueError, TypeError) as error:
            raise BadSignature("is no message of ours") from error
        if message.get("func") not in TASKS:
            raise BadSignature(f"{message.get('func')} is no task of ours")
        if message.get("hook"):
            raise BadSignature("has a hook; none of our tasks has")
        return {**message, "args": tuple(message["args"])}


def _encode(value: Any, *_: Any) -> str:
    return json.dumps(value, default=str)


def _decode(text: str, *_: Any) -> Any:
    return json.loads(text)
