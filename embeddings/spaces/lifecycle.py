"""Which vectors may be compared, and which of them search uses. Every change of a space's status is here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from django.db import transaction
from django.utils import timezone

from embeddings.encoders.base import Description
from embeddings.errors import FingerprintChanged, NoSuchSpace
from embeddings.models import EmbeddingSpace

Status = EmbeddingSpace.Status
WRITABLE = (Status.BUILDING, Status.LIVE)


def fingerprint_of(description: Description) -> str:
    """Return the SHA-256 of everything that decides a vector's value, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(description.fingerprint, sort_keys=True).encode()).hexdigest()


def space_with(model: str, status: str) -> EmbeddingSpace | None:
    """Return the model's live, building or kept space; of each there is at most one."""
    return EmbeddingSpace.objects.filter(model=model, status=status).first()


def live_space(model: str) -> EmbeddingSpace | None:
    """Return the space that search uses for ``model``."""
    return space_with(model, Status.LIVE)


def space_for(model: str, description: Description, *, anew: bool = False) -> EmbeddingSpace:
    """Return the space in which a job over the whole library works, making it when there is none.

    While nothing is embedded, it is live at once. Vectors of another fingerprint, or all of them ``anew``, are
    built beside the live ones; a leftover build of the same fingerprint goes on, any other is dropped.
    """
    fingerprint = fingerprint_of(description)
    with transaction.atomic():
        spaces = _locked(model)
        live, build = spaces.get(Status.LIVE), spaces.get(Status.BUILDING)
        space = space_to_use(model, fingerprint, anew=anew)
        if build != space:
            drop(build)
        if live and live == space:
            return live
        if live and not live.embeddings.exists():
            drop(live)
            live = None
        if space:
            return space if live else _set(space, Status.LIVE)
        return EmbeddingSpace.objects.create(
            model=model,
            dimension=description.dimension,
            fingerprint=fingerprint,
            recipe=description.fingerprint,
            status=Status.BUILDING if live else Status.LIVE,
        )


def space_to_use(model: str, fingerprint: str, *, anew: bool = False) -> EmbeddingSpace | None:
    """Return the space in which ``space_for`` lets a job go on; None where it would make a new one."""
    live, build = live_space(model), space_with(model, Status.BUILDING)
    if live and live.fingerprint == fingerprint and not (anew and live.embeddings.exists()):
        return live
    return build if build and build.fingerprint == fingerprint else None


def lock_for_writing(spaces: Iterable[EmbeddingSpace]) -> None:
    """In a transaction that writes vectors: let no space change its status until it ends.

    Raises FingerprintChanged when one of them is no longer building or live, or not with this fingerprint.
    """
    expected = {space.pk: space for space in spaces}
    locked = EmbeddingSpace.objects.select_for_update(no_key=True).filter(pk__in=expected, status__in=WRITABLE)
    found = dict(locked.order_by("model", "pk").values_list("pk", "fingerprint"))
    for pk, space in expected.items():
        if found.get(pk) != space.fingerprint:
            raise FingerprintChanged(f"the space in which the job embeds with {space.model} is not in use any more")


def make_live(spaces: Iterable[EmbeddingSpace]) -> list[EmbeddingSpace]:
    """Makes these builds live, all at once; keeps what was live, for a way back.

    Returns those that were not live before: only a build becomes live, so doing it again changes nothing.
    """
    changed = []
    with transaction.atomic():
        for space in sorted(spaces, key=lambda space: space.model):  # always in this order: no deadlock
            others = _locked(space.model)
            if others.get(Status.BUILDING) != space:
                continue
            drop(others.get(Status.KEPT))
            if live := others.get(Status.LIVE):
                _set(live, Status.KEPT)
            changed.append(_set(space, Status.LIVE))
    return changed


def roll_back(model: str) -> EmbeddingSpace:
    """Makes the kept space live again, and keeps the live one; returns what is live now. Raises NoSuchSpace."""
    with transaction.atomic():
        spaces = _locked(model)
        kept, live = spaces.get(Status.KEPT), spaces.get(Status.LIVE)
        if kept is None:
            raise NoSuchSpace(f"no former vectors of {model} are kept: there is nothing to go back to")
        if live:
            _set(kept, Status.DROPPING)  # until the end of this transaction: only one may be kept
            _set(live, Status.KEPT)
        return _set(kept, Status.LIVE)


def drop(space: EmbeddingSpace | None) -> bool:
    """Give a space up; housekeeping gives its disk back step by step. True when it was not dropping before.

    ``spaces --drop`` and ``expired`` call it for builds and kept spaces; a live one is only ever dropped empty.
    """
    if space is None:
        return False
    unchanged = EmbeddingSpace.objects.filter(pk=space.pk, status=space.status).exclude(status=Status.DROPPING)
    return bool(unchanged.update(status=Status.DROPPING))


def drop_expired() -> int:
    """Drop what has been kept for long enough; returns how many spaces."""
    kept = EmbeddingSpace.objects.filter(status=Status.KEPT)
    return sum(drop(space) for space in kept if space.kept_until and space.kept_until <= timezone.now())


def _locked(model: str) -> dict[str, EmbeddingSpace]:
    """Return the model's spaces by status, locked until the transaction ends; without those that are dropping."""
    spaces = EmbeddingSpace.objects.select_for_update().filter(model=model).exclude(status=Status.DROPPING)
    return {space.status: space for space in spaces.order_by("pk")}


def _set(space: EmbeddingSpace, status: Status) -> EmbeddingSpace:
    space.status = status
    space.kept_at = timezone.now() if status == Status.KEPT else None
    space.save(update_fields=["status", "kept_at"])
    return space
