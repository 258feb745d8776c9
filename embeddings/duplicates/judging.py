"""Whether tracks hold the same recording: all models agree, they are as long, and they sound the same when compared."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from embeddings.audio import recording
from embeddings.audio.pool import DecodePool
from embeddings.encoders.registry import MODEL_KEYS
from embeddings.errors import AudioError, LibraryUnavailable
from embeddings.library import is_streamed
from embeddings.library.fetching import fetched
from embeddings.library.folders import is_place_there
from embeddings.library.places import places
from embeddings.models import Embedding, EmbeddingSpace, Track
from embeddings.search.comparing import cosines, probe
from embeddings.search.deadline import Deadline
from embeddings.search.neighbours import NotEmbeddedError, embedding_in, nearest_in
from embeddings.spaces.lifecycle import live_space

ALIKE = 0.9
"""Cosine, for each model that knows both: what differs more is not worth decoding."""
NEAREST = 10
SOUNDS_KEPT = 200  # acoustic fingerprints: 15 kB for four minutes


@dataclass(frozen=True)
class Duplicate:
    """Another track with the same recording; ``similarity``: cosine by model."""

    track_id: str
    similarity: dict[str, float]
    same_audio: bool
    """Its audio is the same bit by bit; else it sounds the same."""


class Judge:
    """Compares tracks by their vectors first, then by what is heard. Files are read with ``decoders``."""

    def __init__(self, decoders: DecodePool) -> None:
        self._spaces = [space for model in MODEL_KEYS if (space := live_space(model))]
        self._decoders = decoders
        self._sound = lru_cache(SOUNDS_KEPT)(self._listen)

    def duplicates(self, track_id: str, candidates: Collection[str]) -> Iterator[Duplicate]:
        """Yield those of the candidates that are duplicates of a track. Raises LibraryUnavailable."""
        tracks = Track.objects.filter(playable=True).in_bulk([track_id, *candidates])
        if track_id not in tracks:
            return
        alike = self._alike(track_id, [each for each in candidates if each in tracks and each != track_id])
        known = Embedding.objects.filter(space=self._spaces[0], track__in=[track_id, *alike])
        facts = {row[0]: row[1:] for row in known.values_list("track_id", "audio_seconds", "audio_hash")}
        for other, similarity in alike.items():
            (seconds, audio_hash), (others_seconds, others_hash) = facts[track_id], facts[other]
            if abs(seconds - others_seconds) > recording.MOST_APART:
                continue
            is_same = bool(audio_hash) and audio_hash == others_hash
            if is_same or self._sound_same(tracks[track_id], tracks[other]):
                yield Duplicate(other, similarity, is_same)

    def _alike(self, track_id: str, candidates: list[str]) -> dict[str, dict[str, float]]:
        """Return those that no model tells apart, with their cosines by model."""
        found: dict[str, dict[str, float]] = {each: {} for each in candidates}
        for number, space in enumerate(self._spaces):
            try:
                asked = probe(embedding_in(space, track_id))
            except NotEmbeddedError:
                continue
            if asked is None or not found:
                break
            ids, near = cosines(space, [asked], found, Deadline(math.inf))
            scores = dict(zip(ids, near[:, 0].tolist(), strict=True))
            # The first model has to know both: it says how long they are.
            found = {
                each: known | ({space.model: scores[each]} if each in scores else {})
                for each, known in found.items()
                if scores.get(each, 0.0 if number == 0 else 1.0) >= ALIKE
            }
        return found

    def _sound_same(self, one: Track, other: Track) -> bool:
        try:
            return recording.is_same(self._sound(one), self._sound(other))
        except AudioError as error:
            for track in (one, other):
                if not is_streamed() and not is_place_there(places().file(track.path)):
                    raise LibraryUnavailable(f"the folder of {track.path} is not there") from error
            return False  # nobody can say so now

    def _listen(self, track: Track) -> bytes:
        with fetched([track], lambda: None) as files:
            return self._decoders.fingerprint(files.get(track.pk) or places().file(track.path))


def duplicates_of(track_id: str, decoders: DecodePool) -> list[Duplicate]:
    """Return the duplicates of one track. Raises NotEmbeddedError, IndexUnavailable, LibraryUnavailable."""
    space = first_space()
    if space is None:
        raise NotEmbeddedError("nothing has been embedded yet")
    near = nearest_in(space, embedding_in(space, track_id), limit=NEAREST, exclude=[track_id])
    return list(Judge(decoders).duplicates(track_id, [each.track_id for each in near if each.score >= ALIKE]))


def first_space() -> EmbeddingSpace | None:
    """Return the space whose neighbours are asked: of the first model that search uses."""
    return next((space for model in MODEL_KEYS if (space := live_space(model))), None)
