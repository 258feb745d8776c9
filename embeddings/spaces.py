"""Which vectors may be compared: one space per model and fingerprint."""

from __future__ import annotations

import hashlib
import json

from django.db import transaction

from embeddings.encoders.base import Description
from embeddings.models import EmbeddingSpace


def fingerprint_of(description: Description) -> str:
    """Return the SHA-256 of everything that decides a vector's value, as hexadecimal digits."""
    return hashlib.sha256(json.dumps(description.fingerprint, sort_keys=True).encode()).hexdigest()


def live_space(model: str) -> EmbeddingSpace | None:
    """Return the space that search uses for ``model``."""
    return EmbeddingSpace.objects.filter(model=model, status=EmbeddingSpace.Status.LIVE).first()


def space_for(model: str, description: Description) -> EmbeddingSpace:
    """Return the space that vectors of this checkpoint belong to, making it when there is none.

    A model's first space is live at once. One for another fingerprint is built beside the live one, and a
    leftover build of yet another fingerprint is dropped.
    """
    fingerprint = fingerprint_of(description)
    with transaction.atomic():
        spaces = EmbeddingSpace.objects.select_for_update().filter(model=model)
        found = spaces.filter(fingerprint=fingerprint).exclude(status=EmbeddingSpace.Status.KEPT).first()
        if found:
            return found
        spaces.filter(status=EmbeddingSpace.Status.BUILDING).delete()
        has_live = spaces.filter(status=EmbeddingSpace.Status.LIVE).exists()
        return EmbeddingSpace.objects.create(
            model=model,
            dimension=description.dimension,
            fingerprint=fingerprint,
            recipe=description.fingerprint,
            status=EmbeddingSpace.Status.BUILDING if has_live else EmbeddingSpace.Status.LIVE,
        )


def make_live(space: EmbeddingSpace) -> bool:
    """Let search use ``space``; the one it used so far is kept. True when it was not live before."""
    with transaction.atomic():
        same_model = EmbeddingSpace.objects.filter(model=space.model)
        if not same_model.filter(pk=space.pk, status=EmbeddingSpace.Status.BUILDING).exists():
            return False
        same_model.filter(status=EmbeddingSpace.Status.LIVE).update(status=EmbeddingSpace.Status.KEPT)
        return bool(same_model.filter(pk=space.pk).update(status=EmbeddingSpace.Status.LIVE))
