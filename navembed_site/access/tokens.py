"""Making, finding and revoking tokens."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock

from cachetools import TTLCache, cached
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from navembed_site.access.models import Token
from navembed_site.access.scopes import Scope
from navembed_site.errors import NavembedError
from navembed_site.names import clean_text

logger = logging.getLogger(__name__)

SECRET = re.compile(r"nv_[\w-]{43}", re.ASCII)
PREFIX_CHARS = 8
LONGEST_DAYS = 36_500
PLUGIN = "navembed-plugin/"
"""So our plugin for Navidrome begins to call itself; its version and settings follow."""
LONGEST_AGENT = 255
NOTE_USE_EVERY = timedelta(minutes=1)
FRESH_SECONDS = 1.0
"""How old what is known of a token may be: a program that polls would ask the database each time."""
MOST_REMEMBERED = 1000


class NameTaken(NavembedError):
    """Tokens that are not revoked have different names."""


def create_token(name: str, scope: Scope, *, created_by: str, days: int | None = None) -> Token:
    """Return a new token, valid for so many days, whose ``secret`` nobody can find out later. Raises NameTaken."""
    secret = f"nv_{secrets.token_urlsafe(32)}"
    if is_taken(name):
        raise NameTaken(f"There is a token named {name!r}; revoke it, or choose another name.")
    token = Token.objects.create(
        name=name,
        scope=scope,
        digest=_digest(secret),
        prefix=secret[:PREFIX_CHARS],
        created_by=created_by,
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )
    token.secret = secret
    return token


def is_taken(name: str) -> bool:
    return Token.objects.filter(name=name, revoked=False).exists()


def find_token(secret: str) -> Token | None:
    """Return the valid token with this secret; what another process does to it shows after ``FRESH_SECONDS``."""
    if not SECRET.fullmatch(secret):
        return None
    token = _read(_digest(secret))
    return token if token and token.state == "valid" else None


@cached(TTLCache(MOST_REMEMBERED, FRESH_SECONDS), lock=Lock())
def _read(digest: str) -> Token | None:
    return Token.objects.filter(digest=digest).first()


def note_use(token: Token, agent: str = "") -> None:
    """Remember, to the minute, when ``token`` was used; of the plugin, also how it calls itself.

    Forgone when the database cannot write at once.
    """
    now = timezone.now()
    plugin = clean_text(agent)[:LONGEST_AGENT] if agent.startswith(PLUGIN) else token.plugin
    if plugin == token.plugin and token.last_used_at and abs(now - token.last_used_at) < NOTE_USE_EVERY:
        return
    try:
        with _at_once():
            Token.objects.filter(pk=token.pk).update(last_used_at=now, plugin=plugin)
        token.last_used_at, token.plugin = now, plugin
    except DatabaseError as error:
        logger.debug("The use of %s was not noted: %s", token, error)


def revoke(token: Token) -> None:
    """Revokes ``token``; other processes notice within ``FRESH_SECONDS``."""
    Token.objects.filter(pk=token.pk).update(revoked=True)
    _read.cache_clear()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@contextmanager
def _at_once() -> Iterator[None]:
    """Makes a statement fail at once where it would wait for a lock."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with transaction.atomic():
                cursor.execute("SET LOCAL lock_timeout = '10ms'")
                yield
            return
        patience = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")
