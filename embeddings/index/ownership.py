"""Whose the collections and aliases in Milvus are: others may use the same Milvus, among them a copy of our database.

Our collections have the instance's mark in their names. A copy has the same mark; so each collection also has an alias,
the claim, that says from where it is used, and a copy elsewhere leaves it alone until a human has decided.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import socket
from itertools import islice
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection

from embeddings.encoders.registry import ENCODERS, encoder_class
from embeddings.errors import IndexUnavailable
from embeddings.models import EmbeddingSpace, Instance, instance, instance_mark

if TYPE_CHECKING:
    from embeddings.index.store import VectorStore

logger = logging.getLogger(__name__)

IDS_PER_STEP = 1000
NAME_LETTERS = 100
COPY = (
    "The collection {collection} in Milvus is used by another copy of this instance, {holder}. "
    "If that one is gone for good, `manage.py adopt_milvus` takes its collections over; "
    "if both shall run, `manage.py adopt_milvus --separate` gives this one collections of its own"
)
FOREIGN = (
    "Milvus has collections of somebody else's named {names}; `manage.py adopt_milvus` renames them, nothing is lost"
)
ELSEWHERE = (
    "The aliases by which other programs know our vectors in Milvus belong to another instance ({targets}); "
    "this one works without them, `manage.py adopt_milvus` takes them over"
)


def settle(store: VectorStore, space: EmbeddingSpace) -> None:
    """See to it that the space's collection, if it exists, is ours alone.

    Call it before anything that changes the collection. Raises IndexUnavailable when a copy of this instance uses it.
    """
    if not space.instance:
        _adopt_former(store, space)
    if store.exists(space.collection):
        claim(store, space.collection)


def claim(store: VectorStore, collection: str, *, take_over: bool = False) -> None:
    """Note at the collection that it is used from here.

    Raises IndexUnavailable when it is used from elsewhere; not where Milvus is that of our own home.
    """
    if (others := _other_claims(store, collection)) and settings.MILVUS_URI and not take_over:
        raise IndexUnavailable(note(_copy_problem(collection, others[0])))
    for alias in others:
        store.drop_alias(alias)
    if not any(_is_claim(alias, collection) for alias in store.aliases_of(collection)):
        try:
            store.create_alias(f"{collection}__{place_name()}_{place_mark()}", collection)
        except IndexUnavailable:
            if not store.aliases_of(collection):  # else another process was faster
                raise


def separate() -> None:
    """Give this instance a mark that no copy of it has; its collections are then to be made anew."""
    Instance.objects.filter(pk=instance().pk).update(mark=secrets.token_hex(4))
    EmbeddingSpace.objects.update(instance=instance_mark())


def problem_with(store: VectorStore) -> str:
    """Return what belongs to others of that which has our names, and what to do; empty when nothing does."""
    existing = store.collections()
    for space in EmbeddingSpace.objects.exclude(instance=""):
        if space.collection in existing and settings.MILVUS_URI and (others := _other_claims(store, space.collection)):
            return _copy_problem(space.collection, others[0])
    if foreign := store.foreign_collections(_aliases()):
        return FOREIGN.format(names=", ".join(foreign))
    if named := _aliases_of_others(store):
        return ELSEWHERE.format(targets=", ".join(f"{alias} names {target}" for alias, target in named.items()))
    return ""


def point_aliases(store: VectorStore, *, take_over: bool = False) -> str:
    """Points each model's alias at its live collection; takes none when another instance has one of them.

    Returns ``problem_with``. With ``take_over`` that instance loses them. Raises IndexUnavailable.
    """
    spaces = list(EmbeddingSpace.objects.exclude(status=EmbeddingSpace.Status.DROPPING))
    for space in spaces:
        settle(store, space)
    if take_over:
        for alias in _aliases_of_others(store):
            store.drop_alias(alias)
    existing, others = store.collections(), _aliases_of_others(store)
    for space in spaces:
        alias = encoder_class(space.model).alias
        if space.status != EmbeddingSpace.Status.LIVE or space.collection not in existing or alias in existing:
            continue
        if not others or (alias not in others and store.alias_target(alias)):
            store.point_alias(alias, space.collection)
    return note(problem_with(store))


def note(text: str) -> str:
    """Keep what stands in the way, for those who cannot ask Milvus; returns it."""
    Instance.objects.filter(pk=instance().pk).exclude(notice=text).update(notice=text)
    return text


def notice() -> str:
    """Return what was found to stand in the way when somebody last asked Milvus."""
    return instance().notice


def place_mark() -> str:
    """Return what tells this database from any copy of it.

    A PostgreSQL, which several machines may use, has numbers for cluster and database. An SQLite file is known by its
    path and by its home's secret key, which no backup holds, and which is another file in a home that was copied.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "FROM pg_control_system()"
            )
            known_by = cursor.fetchone()
    else:
        key = settings.NAVEMBED_HOME / "secret_key"
        path = os.path.realpath(settings.DATABASES["default"]["NAME"])
        known_by = (path, settings.SECRET_KEY, key.exists() and key.stat().st_ino)
    return hashlib.sha256(repr(known_by).encode()).hexdigest()[:12]


def place_name() -> str:
    """Return this host and home in letters that Milvus allows."""
    return re.sub("[^A-Za-z0-9]+", "_", f"{socket.gethostname()}_{settings.NAVEMBED_HOME}")[:NAME_LETTERS]


def _other_claims(store: VectorStore, collection: str) -> list[str]:
    aliases = store.aliases_of(collection)
    return [alias for alias in aliases if _is_claim(alias, collection) and not alias.endswith(f"_{place_mark()}")]


def _is_claim(alias: str, collection: str) -> bool:
    return alias.startswith(f"{collection}__")


def _copy_problem(collection: str, alias: str) -> str:
    return COPY.format(collection=collection, holder=alias.removeprefix(f"{collection}__").rpartition("_")[0])


def _aliases() -> list[str]:
    return [encoder.alias for encoder in ENCODERS]


def _aliases_of_others(store: VectorStore) -> dict[str, str]:
    """Return our aliases that name a collection which is not ours, and its name."""
    targets = {alias: store.alias_target(alias) for alias in _aliases()}
    return {alias: target for alias, target in targets.items() if target and not _is_ours(target)}


def _is_ours(collection: str) -> bool:
    if collection.startswith(f"navembed_{instance_mark()}_"):
        return True
    return any(space.collection == collection for space in EmbeddingSpace.objects.filter(instance=""))


def _adopt_former(store: VectorStore, space: EmbeddingSpace) -> None:
    """Give the space our mark, and its collection a name of our own.

    Earlier versions named collections alike in all instances. One with a vector that our database does not know may be
    somebody else's: it is left as it is, and ours is made anew from the database.
    """
    former, space.instance = space.collection, instance_mark()
    existing = store.collections()
    if former in existing and space.collection not in existing:
        if _holds_only_ours(store, former, space):
            store.rename(former, space.collection)
        else:
            logger.warning("Milvus's collection %s has vectors that are not ours, so it is left as it is", former)
    EmbeddingSpace.objects.filter(pk=space.pk).update(instance=space.instance)


def _holds_only_ours(store: VectorStore, collection: str, space: EmbeddingSpace) -> bool:
    ids = store.ids(collection)
    while page := list(islice(ids, IDS_PER_STEP)):
        if space.embeddings.filter(track_id__in=page).count() < len(page):
            return False
    return True
