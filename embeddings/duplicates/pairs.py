"""What is remembered of pairs: suggestions, and what somebody has said of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from django.db.models import Q, QuerySet

from embeddings.models import DuplicatePair


def pairs_of(track_ids: Collection[str]) -> QuerySet[DuplicatePair]:
    """Return the pairs in which one of these tracks is."""
    return DuplicatePair.objects.filter(Q(one__in=track_ids) | Q(other__in=track_ids))


def suggested() -> QuerySet[DuplicatePair]:
    """Return the pairs of tracks that can both be played."""
    return DuplicatePair.objects.filter(one__playable=True, other__playable=True)


def reject(track_id: str, others: Collection[str], *, rejected: bool = True) -> int:
    """Remember that a track is no duplicate of these others, or is one again; returns how many pairs that are."""
    of_track = Q(one=track_id, other__in=others) | Q(other=track_id, one__in=others)
    return DuplicatePair.objects.filter(of_track).update(rejected=rejected)


def follow(new_ids: Mapping[str, str]) -> None:
    """Carry pairs over to the new ids of their tracks, by old id, with what somebody has said of them."""
    for pair in pairs_of(list(new_ids)):
        one, other = sorted(new_ids.get(each, each) for each in (pair.one_id, pair.other_id))
        same = DuplicatePair.objects.filter(one=one, other=other)
        if one == other or same.exists():
            same.update(rejected=pair.rejected)
            pair.delete()
        else:
            DuplicatePair.objects.filter(pk=pair.pk).update(one=one, other=other)


def groups(pairs: Iterable[DuplicatePair]) -> list[list[DuplicatePair]]:
    """Return the pairs by what they connect: each group's tracks are those of a chain of pairs."""
    root: dict[str, str] = {}

    def find(track: str) -> str:
        while root.setdefault(track, track) != track:
            root[track] = track = root[root[track]]
        return track

    known = list(pairs)
    for pair in known:
        root[find(pair.one_id)] = find(pair.other_id)
    found: dict[str, list[DuplicatePair]] = {}
    for pair in known:
        found.setdefault(find(pair.one_id), []).append(pair)
    return list(found.values())
