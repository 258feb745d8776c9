"""Looks through the library for duplicates, once somebody has asked; later through what is new or has changed."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from embeddings.audio.pool import DecodePool
from embeddings.duplicates.judging import ALIKE, NEAREST, Duplicate, Judge, first_space
from embeddings.duplicates.pairs import pairs_of
from embeddings.index.sync import vector_store
from embeddings.maps.vectors import blocks
from embeddings.models import DuplicateLook, DuplicatePair, Embedding, EmbeddingSpace
from embeddings.spaces.rows import rows_of

TRACKS_A_SLICE = 100  # what is lost when the process ends


def want_look() -> None:
    """Asks for the library to be compared, now and after each change."""
    DuplicateLook.objects.get_or_create(pk=1)


def look_due() -> bool:
    """Whether somebody has asked, and there are tracks that have not been looked at as they are now."""
    look, space = DuplicateLook.objects.first(), first_space()
    return bool(look and space and _left(look, space).exists())


def tracks_left() -> int:
    """Return how many tracks have not been looked at as they are now."""
    look, space = DuplicateLook.objects.first() or DuplicateLook(), first_space()
    return _left(look, space).count() if space else 0


def look_through(decoders: DecodePool) -> Iterator[int]:
    """Look at what is left, a slice at a time, yielding how many tracks it had; may be broken off anywhere.

    Raises IndexUnavailable, LibraryUnavailable: what was not compared is left for the next time.
    """
    look, space = DuplicateLook.objects.first(), first_space()
    if look is None or space is None:
        return
    judge = Judge(decoders)
    while rows := list(_left(look, space).values_list("pk", "track_id", "updated_at")[:TRACKS_A_SLICE]):
        tracks = {key: track_id for key, track_id, _ in rows}
        found = {
            track_id: list(judge.duplicates(track_id, near)) for track_id, near in _candidates(space, tracks).items()
        }
        look.space_key, look.until, look.last_key, look.looked_at = space.pk, rows[-1][2], rows[-1][0], timezone.now()
        with transaction.atomic():
            for track_id, duplicates in found.items():
                _remember(track_id, duplicates)
            look.save()
        yield len(rows)


def _left(look: DuplicateLook, space: EmbeddingSpace) -> QuerySet[Embedding]:
    rows = rows_of(space).filter(track__playable=True).order_by("updated_at", "pk")
    if look.until is None or look.space_key != space.pk:
        return rows
    return rows.filter(Q(updated_at__gt=look.until) | Q(updated_at=look.until, pk__gt=look.last_key))


def _candidates(space: EmbeddingSpace, tracks: dict[int, str]) -> dict[str, set[str]]:
    """Return by track what is near to it in the index, and what it was paired with before."""
    found: dict[str, set[str]] = {track_id: set() for track_id in tracks.values()}
    for block in blocks(space, sorted(tracks)):
        near = vector_store().search_all(space.collection, block.rows, NEAREST + 1)
        for key, hits in zip(block.keys, near, strict=True):
            found[tracks[key]] |= {hit.track_id for hit in hits if hit.score >= ALIKE}
    for pair in pairs_of(found):
        for track_id, other in ((pair.one_id, pair.other_id), (pair.other_id, pair.one_id)):
            if track_id in found:
                found[track_id].add(other)
    return found


def _remember(track_id: str, duplicates: list[Duplicate]) -> None:
    """Write down a track's pairs, and forget those that are none any more; what somebody has said stays."""
    others = [duplicate.track_id for duplicate in duplicates]
    pairs_of([track_id]).filter(rejected=False).exclude(one__in=others).exclude(other__in=others).delete()
    for duplicate in duplicates:
        one, other = sorted((track_id, duplicate.track_id))
        facts = {"similarity": duplicate.similarity, "same_audio": duplicate.same_audio}
        DuplicatePair.objects.update_or_create(one_id=one, other_id=other, defaults=facts)
