"""Whether the library, or another upload of these hours, has the same recording already."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from django.db.models import QuerySet
from django.utils import timezone
from numpy.typing import NDArray

from embeddings.audio import recording
from embeddings.audio.pool import DecodePool
from embeddings.encoders.registry import encoder_class
from embeddings.errors import AudioError
from embeddings.library.places import places
from embeddings.models import Embedding, EmbeddingSpace, Track, UploadEmbedding
from embeddings.search.neighbours import nearest_in
from embeddings.spaces.lifecycle import live_space
from embeddings.spaces.vectors import DTYPES
from navembed_site.process.locks import hold

RECENT = timedelta(hours=1)  # an upload whose copying has failed may come again later
MOST_RECENT = 1_000
MOST_COMPARED = 5  # candidates of each kind that are compared, the nearest first

_deciding = threading.Lock()
DECIDING = "uploads-deciding"
"""Locks, of this process and of this host, held from the look at other uploads until ours counts as one.

So one is kept of two that come together. The first spares the second a wait, which is logged.
"""


@dataclass(frozen=True)
class Match:
    """Something that sounds like ``file``, an upload or a track of one. ``upload`` or ``track_id`` says what.

    ``confirmed``: it is the same recording; else only its embedding is close.
    """

    file: str
    similarity: float
    confirmed: bool
    track_id: str = ""
    title: str = ""
    artist: str = ""
    path: str = ""
    upload: str = ""

    def as_answer(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class _Candidate:
    match: Match
    sound: bytes = b""
    """Its acoustic fingerprint, where that is known already."""


def matches(
    path: Path,
    name: str,
    audio_hash: str,
    fingerprints: Mapping[str, str],
    *,
    threshold: float,
    decoders: DecodePool,
) -> list[Match]:
    """Return what is at least as similar as ``threshold``, confirmed or not; confirmed ones first.

    Without a confirmed one the upload is accepted, and others are compared with it from then on.
    Raises IndexUnavailable, AudioError when the upload itself cannot be compared.
    """
    ours = _rows(audio_hash, fingerprints)
    sound = b""
    found = [*_same_tracks(name, audio_hash)]
    if ours and not found:
        sound = next((bytes(row.sound) for row in ours if row.sound), b"") or decoders.fingerprint(str(path))
        found = [_judged(candidate, sound, decoders) for candidate in _near_tracks(name, ours, threshold)]
    with _deciding, hold(DECIDING):
        found += _same_uploads(name, ours)
        if sound:
            found += [_judged(candidate, sound, decoders) for candidate in _near_uploads(name, ours, threshold)]
        if not any(match.confirmed for match in found):
            accept(name, audio_hash, fingerprints, sound=sound)
    return sorted(found, key=lambda match: (not match.confirmed, -match.similarity))


def accept(name: str, audio_hash: str, fingerprints: Mapping[str, str], **fields: bytes) -> None:
    """Have an upload, which its sender will copy, count as one with which others are compared."""
    _rows(audio_hash, fingerprints).update(name=name, accepted_at=timezone.now(), **fields)


def _same_tracks(name: str, audio_hash: str) -> Iterator[Match]:
    rows = Embedding.objects.filter(audio_hash=audio_hash, space__status=EmbeddingSpace.Status.LIVE)
    for track in Track.objects.filter(pk__in=rows.values("track_id"), playable=True):
        yield _of_track(name, track, 1.0, confirmed=True)


def _same_uploads(name: str, ours: QuerySet[UploadEmbedding]) -> Iterator[Match]:
    """Yield those of other names: a file that comes again under its own was not copied the first time."""
    for upload in set(_recent(ours).exclude(name=name).values_list("name", flat=True)):
        yield Match(name, 1.0, True, upload=upload)


def _near_tracks(name: str, ours: Iterable[UploadEmbedding], threshold: float) -> list[_Candidate]:
    similar: dict[str, float] = {}
    for row in ours:
        space = live_space(row.model)
        if space is None or space.fingerprint != row.fingerprint:
            continue
        for each in nearest_in(space, _vector(row)):
            if each.score >= threshold:
                similar[each.track_id] = max(each.score, similar.get(each.track_id, 0.0))
    tracks = Track.objects.filter(playable=True).in_bulk(list(similar))
    ordered = sorted(tracks.values(), key=lambda track: -similar[track.pk])[:MOST_COMPARED]
    return [_Candidate(_of_track(name, track, similar[track.pk])) for track in ordered]


def _near_uploads(name: str, ours: Iterable[UploadEmbedding], threshold: float) -> list[_Candidate]:
    found = []
    for row in ours:
        vector = _vector(row)
        others = _recent(UploadEmbedding.objects.filter(fingerprint=row.fingerprint)).exclude(pk=row.pk)
        for other in others.order_by("-accepted_at")[:MOST_RECENT].iterator():
            similarity = float(vector @ _vector(other))
            if similarity >= threshold:
                found.append(_Candidate(Match(name, similarity, False, upload=other.name), bytes(other.sound)))
    return sorted(found, key=lambda candidate: -candidate.match.similarity)[:MOST_COMPARED]


def _judged(candidate: _Candidate, sound: bytes, decoders: DecodePool) -> Match:
    other = candidate.sound
    if candidate.match.track_id:
        try:
            other = decoders.fingerprint(places().file(candidate.match.path))
        except AudioError:
            return candidate.match  # nobody can say so now
    return replace(candidate.match, confirmed=bool(other) and recording.is_same(sound, other))


def _rows(audio_hash: str, fingerprints: Mapping[str, str]) -> QuerySet[UploadEmbedding]:
    return UploadEmbedding.objects.filter(fingerprint__in=fingerprints.values(), audio_hash=audio_hash)


def _recent(uploads: QuerySet[UploadEmbedding]) -> QuerySet[UploadEmbedding]:
    """Return those that were accepted; what was kept out as a duplicate keeps nothing else out."""
    return uploads.filter(accepted_at__gt=timezone.now() - RECENT)


def _of_track(name: str, track: Track, similarity: float, *, confirmed: bool = False) -> Match:
    return Match(name, similarity, confirmed, track.pk, track.title, track.artist, track.path)


def _vector(row: UploadEmbedding) -> NDArray[np.float32]:
    """Return it as float32 [dimension], of unit length."""
    vector = np.frombuffer(row.vector, DTYPES[encoder_class(row.model).stored_dtype]).astype(np.float32)
    unit: NDArray[np.float32] = vector / np.linalg.norm(vector)
    return unit
